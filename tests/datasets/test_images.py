"""MNIST and CIFAR-10 from small files written byte by byte, damaged ones, and a local server."""

import gzip
import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ancestryvi.datasets import fetch_cifar10, fetch_mnist, images, load_cifar10, load_mnist
from ancestryvi.exceptions import InputFormatError

PIXELS = [[[0, 51, 102], [153, 204, 255]], [[1, 2, 3], [4, 5, 6]]]  # two images of two rows
MNIST_NAMES = [
    f"{stem}-{kind}-ubyte.gz"
    for stem in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]
CIFAR10_NAMES = [*(f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5)), "test_batch.bin"]


def image_bytes(pixels=PIXELS):
    """Magic number, three sizes of four bytes with the highest first, pixels by rows."""
    data = [0, 0, 8, 3]
    for size in (len(pixels), len(pixels[0]), len(pixels[0][0])):
        data += [0, 0, size // 256, size % 256]
    for image in pixels:
        for row in image:
            data += row
    return bytes(data)


def label_bytes(labels):
    return bytes([0, 0, 8, 1, 0, 0, len(labels) // 256, len(labels) % 256, *labels])


@pytest.fixture
def mnist(tmp_path):
    """A folder with both splits, the test split packed."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(image_bytes())
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(label_bytes([7, 0]))
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(image_bytes(PIXELS[1:]))
    with gzip.open(tmp_path / "t10k-labels-idx1-ubyte.gz", "wb") as file:
        file.write(label_bytes([9]))
    return tmp_path


def cifar10_records(batch):
    """Two records: class, 1,024 of red, 1,024 of green, 1,024 of blue."""
    records = []
    for image in (0, 1):
        label = (batch + image) % 10
        records += [label] + [10 * batch] * 1024 + [255 * image] * 1024 + [51] * 1024
    return bytes(records)


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """A folder with the six files, of two images each."""
    monkeypatch.setattr(images, "CIFAR10_IMAGES", 2)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for batch, name in enumerate(CIFAR10_NAMES):
        (folder / name).write_bytes(cifar10_records(batch))
    return tmp_path


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder on a server of this machine, and its address."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, _, *arguments):
            asked.append(arguments[0])

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_pixels_of_mnist_are_rows_from_0_to_1(mnist):
    x, y = load_mnist(mnist)
    assert x.dtype == "float64"
    assert y.dtype == "int64"
    expected = [0, 0.2, 0.4, 0.6, 0.8, 1], [pixel / 255 for pixel in (1, 2, 3, 4, 5, 6)]
    assert x.tolist() == [pytest.approx(row) for row in expected]
    assert y.tolist() == [7, 0]


def test_mnist_may_be_packed(mnist):
    x, y = load_mnist(mnist, "test")
    assert x.shape == (1, 6)
    assert x[0, 5] == 6 / 255
    assert y.tolist() == [9]


def test_more_than_255_images_need_the_second_byte_of_a_size(mnist):
    (mnist / "train-images-idx3-ubyte").write_bytes(image_bytes([[[i % 256]] for i in range(300)]))
    (mnist / "train-labels-idx1-ubyte").write_bytes(label_bytes([i % 10 for i in range(300)]))
    x, y = load_mnist(mnist)
    assert x.shape == (300, 1)
    assert x[299, 0] == 43 / 255
    assert y[299] == 9


def test_an_absent_file_is_named_with_what_gets_it(mnist):
    (mnist / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputFormatError, match=r"train-labels-idx1-ubyte is not .* fetch_mnist"):
        load_mnist(mnist)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], r"truncated: .* 2 x 2 x 3, 28 bytes in all, found 27"),
        (lambda data: data + b"\0", r"too long: .* 28 bytes in all, found 29"),
        (lambda data: data[:9], "within its header"),
        (lambda data: data[:2], "begins with"),
        (lambda data: b"\0\0\x08\x01" + data[4:], r"begins with b'\\x00\\x00\\x08\\x01'"),
        (lambda data: b"\0\0\x0d\x03" + data[4:], "begins with"),  # of floats
        (lambda data: b"", "begins with b''"),
    ],
)
def test_damaged_images_are_refused(mnist, damage, message):
    path = mnist / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputFormatError, match=message):
        load_mnist(mnist)


def test_images_and_labels_of_two_sets_are_refused(mnist):
    (mnist / "train-labels-idx1-ubyte").write_bytes(label_bytes([7, 0, 1]))
    with pytest.raises(InputFormatError, match="2 images and 3 labels"):
        load_mnist(mnist)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:20], lambda data: b"<html>"]
)
def test_damaged_gzip_files_are_refused(mnist, damage):
    path = mnist / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputFormatError, match="truncated or no gzip file"):
        load_mnist(mnist, "test")


@pytest.mark.parametrize("load", [load_mnist, load_cifar10])
def test_there_are_two_splits(tmp_path, load):
    with pytest.raises(ValueError, match="'validation'; choose 'train' or 'test'"):
        load(tmp_path, "validation")


def test_cifar10_is_red_then_green_then_blue_of_five_files(cifar10):
    x, y = load_cifar10(cifar10)
    assert x.shape == (10, 3072)
    assert x.dtype == "float64"
    assert y.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert x[4, [0, 1023]].tolist() == [20 / 255] * 2  # red of the third file
    assert x[4, [1024, 2047]].tolist() == [0, 0]
    assert x[5, [1024, 2047]].tolist() == [1, 1]
    assert x[:, [2048, 3071]].tolist() == [[0.2, 0.2]] * 10


def test_the_test_images_of_cifar10_are_of_the_sixth_file(cifar10):
    x, y = load_cifar10(cifar10, "test")
    assert y.dtype == "int64"
    assert y.tolist() == [5, 6]
    assert x[:, 0].tolist() == [50 / 255] * 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], r"truncated: 2 images, 6146 bytes in all, found 6145"),
        (lambda data: data[:3073], r"truncated"),  # whole records
        (lambda data: data + data, r"too long"),
        (lambda data: data[:3073] + b"\x0a" + data[3074:], r"image 2 has class 10"),
    ],
)
def test_damaged_files_of_cifar10_are_refused(cifar10, damage, message):
    path = cifar10 / "cifar-10-batches-bin" / "data_batch_4.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputFormatError, match=rf"data_batch_4.bin .*{message}"):
        load_cifar10(cifar10)


def test_an_absent_file_of_cifar10_is_named_with_what_gets_it(tmp_path):
    with pytest.raises(InputFormatError, match=r"test_batch.bin is not there; fetch_cifar10"):
        load_cifar10(tmp_path, "test")


def serve_mnist(folder, monkeypatch):
    """Put packed files on the server, and their digests where the published ones stand."""
    for name in MNIST_NAMES:
        data = image_bytes() if "images" in name else label_bytes([3, 4])
        (folder / name).write_bytes(gzip.compress(data))
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(images.MNIST_SHA256, name, digest)


def serve_cifar10(folder, monkeypatch):
    monkeypatch.setattr(images, "CIFAR10_IMAGES", 2)
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for batch, name in enumerate(["readme.html", *CIFAR10_NAMES]):
            data = cifar10_records(batch - 1) if batch else b"<html>"
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    digest = hashlib.sha256((folder / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(images, "CIFAR10_SHA256", digest)


def test_mnist_is_fetched_once_and_leaves_nothing_else(served, tmp_path, monkeypatch):
    folder, address, asked = served
    serve_mnist(folder, monkeypatch)
    target = tmp_path / "new" / "mnist"
    fetch_mnist(target, [address])
    assert sorted(path.name for path in target.iterdir()) == sorted(MNIST_NAMES)
    assert load_mnist(target, "test")[1].tolist() == [3, 4]
    assert len(asked) == 4
    fetch_mnist(target, [address])
    assert len(asked) == 4


def test_a_damaged_file_of_mnist_is_fetched_again(served, tmp_path, monkeypatch):
    folder, address, asked = served
    serve_mnist(folder, monkeypatch)
    fetch_mnist(tmp_path, [address])
    (tmp_path / MNIST_NAMES[0]).write_bytes(b"half of")
    fetch_mnist(tmp_path, [address])
    assert len(load_mnist(tmp_path)[0]) == 2
    assert len(asked) == 5


def test_the_next_mirror_is_asked_where_one_has_no_file_or_a_wrong_one(
    served, tmp_path, monkeypatch
):
    folder, address, _ = served
    serve_mnist(folder, monkeypatch)
    (folder / "wrong").mkdir()
    for name in MNIST_NAMES:
        (folder / "wrong" / name).write_bytes(b"moved")
    fetch_mnist(tmp_path, [f"{address}absent/", f"{address}wrong/", address])
    assert load_mnist(tmp_path)[1].tolist() == [3, 4]


def test_without_a_right_mirror_every_reason_is_given_and_nothing_is_left(
    served, tmp_path, monkeypatch
):
    folder, address, _ = served
    serve_mnist(folder, monkeypatch)
    (folder / MNIST_NAMES[0]).write_bytes(b"moved")
    target = tmp_path / "target"
    with pytest.raises(InputFormatError, match=r"absent/: .*404.*; .*: 5 bytes of SHA-256 .*hand"):
        fetch_mnist(target, [f"{address}absent/", address])
    assert list(target.iterdir()) == []


def test_no_server_at_all_is_a_reason_too(served, tmp_path):
    _, address, _ = served
    with pytest.raises(InputFormatError, match=r"cifar-10-binary\.tar\.gz could not be downloaded"):
        fetch_cifar10(tmp_path / "target", ["http://127.0.0.1:9/", f"{address}absent/"])
    assert list((tmp_path / "target" / "cifar-10-batches-bin").iterdir()) == []


def test_cifar10_is_fetched_once_and_leaves_its_files_alone(served, tmp_path, monkeypatch):
    folder, address, asked = served
    serve_cifar10(folder, monkeypatch)
    target = tmp_path / "new" / "cifar10"
    fetch_cifar10(target, [address])
    assert [path.name for path in target.iterdir()] == ["cifar-10-batches-bin"]
    found = sorted(path.name for path in (target / "cifar-10-batches-bin").iterdir())
    assert found == sorted(CIFAR10_NAMES)
    assert load_cifar10(target)[1].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    fetch_cifar10(target, [address])
    assert len(asked) == 1


def test_a_truncated_file_of_cifar10_is_fetched_again(served, tmp_path, monkeypatch):
    folder, address, _ = served
    serve_cifar10(folder, monkeypatch)
    fetch_cifar10(tmp_path, [address])
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    fetch_cifar10(tmp_path, [address])
    assert load_cifar10(tmp_path, "test")[1].tolist() == [5, 6]


def test_a_wrong_archive_of_cifar10_is_not_unpacked(served, tmp_path, monkeypatch):
    folder, address, _ = served
    serve_cifar10(folder, monkeypatch)
    monkeypatch.setattr(images, "CIFAR10_SHA256", "0" * 64)
    with pytest.raises(InputFormatError, match=f"not {'0' * 64}"):
        fetch_cifar10(tmp_path, [address])
    assert not (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").exists()
