"""The VCF-Zarr reader on stores written array by array, in both formats of Zarr."""

import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numcodecs
import numpy as np
import pytest
import zarr

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import open_source, read_genotypes

# The five calls that readers decode differently, as VCF-Zarr stores them.
FIVE = [[0, 0], [0, -1], [1, -1], [-1, -1], [1, -2]]


def write_vcz(path, calls, zarr_format=2, chunks=None, without=(), compressors="auto", **arrays):
    """Calls are (variants, samples, ploidy) allele numbers."""
    calls = np.asarray(calls, dtype=np.int8)
    n_variants, n_samples, _ = calls.shape
    arrays = {
        "call_genotype": calls,
        "sample_id": [f"s{i}" for i in range(n_samples)],
        "contig_id": ["1", "chrUn_7"],
        "variant_contig": (np.arange(n_variants) * 2 // max(1, n_variants)).astype(np.int8),
        "variant_position": np.arange(n_variants, dtype=np.int32) + 5,
        "variant_allele": [["A", "C"]] * n_variants,
        "variant_id": ["."] * n_variants,
    } | arrays
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in arrays.items():
        values = np.asarray(values)
        if name in without:
            continue
        text = values.dtype.kind == "U"
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=str if text else values.dtype,
            chunks=chunks if name == "call_genotype" and chunks else values.shape,
            fill_value="" if text else None if zarr_format == 2 else 0,
            compressors=compressors if name == "call_genotype" else "auto",
            config={"write_empty_chunks": True},
        )
        array[:] = values
    return path


def random_calls(n_variants, n_samples, seed=0):
    """Calls of every shape, and their dosages of (samples, variants)."""
    shapes = {
        (0, 0): 0, (0, 1): 1, (1, 1): 2, (2, 1): 2, (0, 2): 1, (-1, -1): -1, (-1, 1): -1,
        (0, -1): -1, (0, -2): 0, (1, -2): 2, (-1, -2): -1, (-2, -2): -1,
    }  # fmt: skip
    picks = np.random.default_rng(seed).integers(len(shapes), size=(n_variants, n_samples))
    return np.array(list(shapes))[picks], np.array(list(shapes.values()))[picks].T


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_five_calls(tmp_path, five_calls, zarr_format):
    path = write_vcz(tmp_path / "cohort.vcz", [FIVE], zarr_format)
    genotypes = read_genotypes(path)
    assert genotypes.dosages.ravel().tolist() == five_calls[1]
    assert genotypes.sample_ids == ["s0", "s1", "s2", "s3", "s4"]
    assert genotypes.variants.values.tolist() == [["1", 5, ".", "A", "C"]]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kept", [True, False])
def test_any_columns_of_any_chunks(tmp_path, monkeypatch, zarr_format, kept):
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 60)
    if not kept:
        monkeypatch.setattr("ancestryvi.genotypes.vcz._MAX_CHUNK_CALLS", 10)
    calls, dosages = random_calls(50, 6)
    path = write_vcz(tmp_path / "cohort", calls, zarr_format, chunks=(7, 4, 2))
    np.testing.assert_array_equal(read_genotypes(path).dosages, dosages)
    source = open_source(path)
    asked = [slice(3, 9), slice(40, 99), np.array([0, 1, 6, 7, 22, 49]), np.arange(0)] * 10
    wanted = [dosages[:, columns] for columns in asked]
    with ThreadPoolExecutor(4) as threads:
        for read, want in zip(threads.map(source.read_dosages, asked), wanted, strict=True):
            assert read.dtype == np.int8
            np.testing.assert_array_equal(read, want)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read_dosages(asked[2]), wanted[2])


def test_variant_table(tmp_path):
    path = write_vcz(
        tmp_path / "cohort.vcz",
        np.zeros((5, 1, 2)),
        variant_allele=[
            ["A", "C", "<DEL>"], ["AC", "A", ""], ["A", ".", ""], ["G", "", ""], ["T", "", "C"],
        ],
        variant_id=["rs1", "", ".", "a;b", "x"],
        variant_contig=np.array([1, 0, 0, 1, 1]),
    )  # fmt: skip
    assert read_genotypes(path).variants.values.tolist() == [
        ["chrUn_7", 5, "rs1", "A", "C,<DEL>"],
        ["1", 6, ".", "AC", "A"],
        ["1", 7, ".", "A", "."],
        ["chrUn_7", 8, "a;b", "G", "."],
        ["chrUn_7", 9, "x", "T", "C"],
    ]
    path = write_vcz(path, np.zeros((2, 1, 2)), without=["variant_id"])
    assert read_genotypes(path).variants["id"].tolist() == [".", "."]


def test_haploid_and_wide_arrays(tmp_path):
    haploid = write_vcz(tmp_path / "y.vcz", [[[0], [1], [-1], [2]]])
    assert read_genotypes(haploid).dosages.ravel().tolist() == [0, 2, -1, 2]
    wide = [[[0, 1, -2], [1, -2, -2], [-1, 0, -2], [-1, -2, -2]]]
    path = write_vcz(tmp_path / "wide.vcz", wide)
    assert read_genotypes(path).dosages.ravel().tolist() == [1, 2, -1, -1]
    path = write_vcz(tmp_path / "triploid.vcz", [wide[0], [[0, 1, -2], [0, -1, 1], *FIVE3]])
    with pytest.raises(
        InputFormatError, match=r"variant chrUn_7:6:A:C, sample 's1': call '0/\./1'"
    ):
        read_genotypes(path)


FIVE3 = [[0, 0, -2]] * 2


def test_zip_file(tmp_path):
    calls, dosages = random_calls(9, 3)
    folder = write_vcz(tmp_path / "cohort.vcz", calls)
    path = tmp_path / "cohort.vcz.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    np.testing.assert_array_equal(read_genotypes(path).dosages, dosages)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_chunk_that_was_cut_at_its_end_is_noticed(tmp_path, zarr_format, cut):
    calls, dosages = random_calls(40, 30)
    blosc = numcodecs.Blosc("zstd") if zarr_format == 2 else zarr.codecs.BloscCodec()
    path = write_vcz(tmp_path / "cohort.vcz", calls, zarr_format, (10, 20, 2), compressors=blosc)
    np.testing.assert_array_equal(read_genotypes(path).dosages, dosages)
    key = "2.1.0" if zarr_format == 2 else "c/2/1/0"
    chunk = path / "call_genotype" / key
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-cut])
    expected = rf"variants 20 to 29 cannot .* has {len(whole) - cut} bytes of {len(whole)}"
    with pytest.raises(InputFormatError, match=expected):
        read_genotypes(path)


def test_stores_that_are_refused(tmp_path):
    path = tmp_path / "cohort.vcz"
    write_vcz(path, [FIVE] * 4, chunks=(1, 5, 2))
    (path / "call_genotype" / "2.0.0").unlink()
    with pytest.raises(InputFormatError, match="incomplete: 1 of 4 chunks of call_genotype"):
        read_genotypes(path)
    write_vcz(path, [FIVE] * 4, chunks=(1, 5, 2))
    chunk = path / "call_genotype" / "2.0.0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(InputFormatError, match=r"damaged: variants 2 to 2 cannot be read"):
        read_genotypes(path)
    write_vcz(path, [FIVE], without=["call_genotype", "contig_id"])
    with pytest.raises(InputFormatError, match="it lacks call_genotype, contig_id"):
        read_genotypes(path)
    write_vcz(path, [FIVE], sample_id=["a", "b", "a", "c", "d"])
    with pytest.raises(SampleError, match=r"cohort\.vcz: sample id 'a' occurs twice"):
        read_genotypes(path)
    write_vcz(path, [FIVE], sample_id=["a", "b"])
    with pytest.raises(InputFormatError, match=r"shape \(1, 5, 2\), but there are 1 .* 2 samples"):
        read_genotypes(path)
    write_vcz(path, [FIVE], variant_contig=np.array([2]))
    with pytest.raises(InputFormatError, match="points outside contig_id"):
        read_genotypes(path)
    (path / ".zgroup").write_text("{")
    with pytest.raises(InputFormatError, match="cannot be read as Zarr"):
        read_genotypes(path)
