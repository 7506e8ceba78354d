"""`fetch_1000g` and `ancestryvi fetch`, from a server on this machine."""

import errno
import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ancestryvi.cli import main
from ancestryvi.datasets import download as downloading
from ancestryvi.datasets import thousand_genomes
from ancestryvi.datasets.download import download
from ancestryvi.datasets.thousand_genomes import SETS, PublishedSet, fetch_1000g
from ancestryvi.exceptions import ChecksumError, DownloadError

CONTENT = np.random.default_rng(0).bytes(300_000)
PANEL = b"sample\tpop\tsuper_pop\tgender\t\t\nHG00096\tGBR\tEUR\tmale\n"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def fetch(server, tmp_path):
    """Return a function that downloads one file of the server, with the checksum of `CONTENT`."""
    server.files["/x.vcf.gz"] = CONTENT

    def run() -> Path:
        path = tmp_path / "new" / "folder" / "x.vcf.gz"
        download(f"{server.address}/x.vcf.gz", path, md5(CONTENT))
        return path

    return run


def part_of(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "x.vcf.gz.part"


def put_part(tmp_path: Path, content: bytes) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(content)


# ------------------------------------------------------------------------------------ one file


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_comes_whole_and_once(fetch, server, says_length):
    server.says_length = says_length
    path = fetch()
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["x.vcf.gz"]
    fetch()
    assert server.asked == [("/x.vcf.gz", None)]


def test_what_has_come_is_not_asked_for_again(fetch, server, tmp_path):
    put_part(tmp_path, CONTENT[:123_456])
    assert fetch().read_bytes() == CONTENT
    assert server.asked == [("/x.vcf.gz", "bytes=123456-")]
    assert not part_of(tmp_path).exists()


def test_a_connection_that_is_cut_goes_on_where_it_was(fetch, server):
    server.cut_after = 100_001
    assert fetch().read_bytes() == CONTENT
    ranges = [None, "bytes=100001-", "bytes=200002-"]
    assert server.asked == [("/x.vcf.gz", asked) for asked in ranges]


def test_a_connection_that_brings_nothing_is_an_error_and_the_part_stays(fetch, server, tmp_path):
    put_part(tmp_path, CONTENT[:1000])
    server.cut_after = 0
    with pytest.raises(DownloadError, match=r"1,000 bytes of 300,000.*same command again"):
        fetch()
    assert part_of(tmp_path).read_bytes() == CONTENT[:1000]
    assert len(server.asked) == 1
    server.cut_after = None
    assert fetch().read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(fetch, server, tmp_path):
    server.ranges = False
    put_part(tmp_path, b"something else" * 1000)
    assert fetch().read_bytes() == CONTENT


def test_a_server_without_ranges_that_cuts_is_not_asked_for_ever(fetch, server, tmp_path):
    server.ranges, server.cut_after = False, 1000
    with pytest.raises(DownloadError, match="ended after 1,000 bytes of 300,000"):
        fetch()
    assert len(server.asked) == 2


@pytest.mark.parametrize("more", [b"", b"more"])
def test_a_part_that_is_all_or_too_much_is_for_the_checksum_to_decide(
    fetch, server, tmp_path, more
):
    put_part(tmp_path, CONTENT + more)
    if not more:
        assert fetch().read_bytes() == CONTENT
        return
    with pytest.raises(ChecksumError, match="run the same command again"):
        fetch()
    assert fetch().read_bytes() == CONTENT  # the wrong part is gone


def test_another_content_is_refused_and_nothing_is_left(fetch, server, tmp_path):
    server.files["/x.vcf.gz"] = b"<html>Please log in</html>"
    found = md5(server.files["/x.vcf.gz"])
    with pytest.raises(ChecksumError, match=f"{found}, and {md5(CONTENT)} is published"):
        fetch()
    assert list(part_of(tmp_path).parent.iterdir()) == []


def test_a_file_that_was_there_is_never_replaced(fetch, server):
    path = fetch()
    path.write_bytes(b"mine")
    with pytest.raises(ChecksumError, match="Move it away"):
        fetch()
    assert path.read_bytes() == b"mine"
    assert len(server.asked) == 1


def test_a_file_that_the_server_does_not_have(fetch, server, tmp_path):
    server.files.clear()
    with pytest.raises(DownloadError, match=r"x\.vcf\.gz: the server answers 404 .*moved"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path):
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/x cannot be reached .*https_proxy"):
        download("http://127.0.0.1:9/x", tmp_path / "new" / "x", md5(b""))
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_first(fetch, server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9e9, 8e9, 200_000))
    with pytest.raises(DownloadError, match="0 MB free, and 0 MB are still to come; make room"):
        fetch()
    assert not part_of(tmp_path).exists()


def test_a_disk_that_fills_up(fetch, server, tmp_path, monkeypatch):
    class Full:
        """A file on a disk with room for 5,000 bytes."""

        name = str(part_of(tmp_path))

        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *details):
            self._file.close()

        def tell(self):
            return self._file.tell()

        def write(self, block):
            room = 5000 - self._file.tell()
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._file.write(block[:room])

    opening = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *args, **more: Full(opening(path, *args, **more)))
        with pytest.raises(DownloadError, match=r"No space left on device.*same command again"):
            fetch()
    assert part_of(tmp_path).read_bytes() == CONTENT[:5000]
    assert fetch().read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made(server, tmp_path):
    server.files["/x"] = CONTENT
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot be written"):
        download(f"{server.address}/x", tmp_path / "file" / "x", md5(CONTENT))


def test_a_server_that_sends_another_part_than_asked_for(fetch, tmp_path, monkeypatch):
    put_part(tmp_path, CONTENT[:1000])
    total = downloading._total

    def shifted(answer, start, url):
        answer.headers.replace_header("Content-Range", "bytes 7-299999/300000")
        return total(answer, start, url)

    monkeypatch.setattr(downloading, "_total", shifted)
    with pytest.raises(DownloadError, match=r"from byte 1000 on, .*'bytes 7-299999/300000'"):
        fetch()
    assert part_of(tmp_path).read_bytes() == CONTENT[:1000]


# --------------------------------------------------------------------------- the published sets


def tree(*entries: tuple[str, str]) -> bytes:
    """A list like current.tree: folders without checksums, paths that end alike, tabs between."""
    lines = ["ftp\tdirectory\t4096\tTue Mar 16 10:00:00 2021\t"]
    for name, checksum in (("elsewhere/a.panel", "0" * 32), *entries, ("z/last", "f" * 32)):
        lines.append(f"ftp/{name}\tfile\t1\tTue Mar 16 10:00:00 2021\t{checksum}")
    return "\n".join([*lines, ""]).encode()


@pytest.fixture
def published(server):
    """A set whose checksums are in a list, and one with pinned ones."""
    server.files |= {"/set/a.vcf.gz": CONTENT, "/set/a.panel": PANEL}
    sums = {"a.vcf.gz": md5(CONTENT), "a.panel": md5(PANEL)}
    server.files["/current.tree"] = tree(*((f"set/{name}", sums[name]) for name in sums))
    address = f"{server.address}/set/{{name}}"
    tree_of = {"checksum_list": f"{server.address}/current.tree", "listed_under": "ftp/set/"}
    return {
        "listed": PublishedSet(address, "a.vcf.gz", "a.panel", **tree_of),
        "pinned": PublishedSet(address, "a.vcf.gz", "a.panel", md5=sums),
    }


@pytest.mark.parametrize("which", ["listed", "pinned"])
def test_both_files_come_with_the_published_checksums(server, published, tmp_path, which):
    fetched = fetch_1000g(tmp_path / "out", which, sets=published)
    assert fetched.genotypes.read_bytes() == CONTENT
    assert fetched.labels.read_bytes() == PANEL
    n_asked = len(server.asked)
    assert fetch_1000g(tmp_path / "out", which, sets=published) == fetched
    assert len(server.asked) == n_asked  # neither the files nor the list


def test_what_was_looked_up_is_noted_for_md5sum_and_for_the_next_try(server, published, tmp_path):
    del server.files["/set/a.vcf.gz"]
    with pytest.raises(DownloadError, match="404"):
        fetch_1000g(tmp_path, "listed", sets=published)
    lines = {f"{md5(CONTENT)}  a.vcf.gz", f"{md5(PANEL)}  a.panel"}
    assert set((tmp_path / "MD5SUMS").read_text().splitlines()) == lines
    server.files["/set/a.vcf.gz"] = CONTENT
    fetch_1000g(tmp_path, "listed", sets=published)
    assert [path for path, _ in server.asked].count("/current.tree") == 1


def test_checksums_are_looked_up_anew_when_a_file_has_been_replaced(server, published, tmp_path):
    (tmp_path / "MD5SUMS").write_text(f"{'0' * 32}  a.vcf.gz\n{md5(PANEL)}  a.panel\n")
    with pytest.raises(ChecksumError, match="run the same command again"):
        fetch_1000g(tmp_path, "listed", sets=published)
    assert fetch_1000g(tmp_path, "listed", sets=published).genotypes.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "content", [tree(("set/a.panel", md5(PANEL))), tree(("set/a.vcf.gz", "none")), b""]
)
def test_a_file_that_is_not_in_the_list(server, published, tmp_path, content):
    server.files["/current.tree"] = content
    with pytest.raises(DownloadError, match=r"current\.tree has no checksum of ftp/set/a\."):
        fetch_1000g(tmp_path / "out", "listed", sets=published)
    assert not (tmp_path / "out").exists()


def test_a_set_that_there_is_not():
    with pytest.raises(ValueError, match="'chr23'; choose one of affy6, chr22"):
        fetch_1000g("out", "chr23")


def test_the_sets_are_complete():
    for published in SETS.values():
        assert published.url.format(name=published.genotypes).startswith("https://")
        listed = published.checksum_list is not None
        assert listed != (published.md5.keys() == {published.genotypes, published.labels})
        assert published.genotypes.endswith(".vcf.gz")


# --------------------------------------------------------------------------- the command line


def fetched_by_command(*arguments):
    return CliRunner().invoke(main, ["fetch", "1000g", *map(str, arguments)])


def test_the_command_knows_all_sets():
    option = next(o for o in main.commands["fetch"].params if o.name == "which")
    assert set(option.type.choices) == SETS.keys()
    assert all(f"{name}:" in option.help for name in SETS)


def test_the_command_says_what_to_do_next(server, published, tmp_path, monkeypatch):
    monkeypatch.setattr(thousand_genomes.fetch_1000g, "__kwdefaults__", {
        "progress": False, "sets": {"affy6": published["listed"]},
    })  # fmt: skip
    out = tmp_path / "out"
    result = fetched_by_command("--out", out)
    assert result.exit_code == 0, result.stderr
    assert f"ancestryvi convert {out}/a.vcf.gz {out}/a.pgen" in result.stderr
    assert f"ancestryvi embed {out}/a.pgen --labels {out}/a.panel" in result.stderr
    assert "\r" not in result.stderr
    server.files.clear()
    shutil.rmtree(out)
    result = fetched_by_command("--out", out)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "404" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("arguments", [(), ("--out", "o", "--set", "chr23")])
def test_wrong_usage(arguments):
    assert fetched_by_command(*arguments).exit_code == 2
    assert CliRunner().invoke(main, ["fetch", "2000g", "--out", "o"]).exit_code == 2
