"""`ancestryvi convert`, and what to read as options of the other verbs."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from ancestryvi.cli.common import Notes
from ancestryvi.cli.inputs import read_cohort
from ancestryvi.genotypes import read_genotypes, reading


def test_there_and_back(run, cohort, tmp_path):
    vcf = cohort.vcf(tmp_path / "cohort.vcf.gz")
    result = run("convert", vcf, tmp_path / "cohort.pgen")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == f"Wrote {tmp_path}/cohort.pgen: 40 samples x 300 variants.\n"
    assert run("convert", tmp_path / "cohort.pgen", tmp_path / "again.vcf").exit_code == 0
    again = read_genotypes(tmp_path / "again.vcf")
    np.testing.assert_array_equal(again.dosages, cohort.dosages)
    assert again.sample_ids == cohort.ids


def test_selection_and_several_files(run, cohort, tmp_path):
    one = cohort.vcf(tmp_path / "one.vcf")
    two = cohort.bed(tmp_path / "two.bed")
    (tmp_path / "keep.txt").write_text("D09\nA00\n")
    (tmp_path / "variants.txt").write_text("rs0\nrs150\nrs151\nrs999\n")
    result = run(
        "convert", one, two, tmp_path / "out.h5ad", "--region", "chrX2", "--region", "1:5-9",
        "--samples", tmp_path / "keep.txt", "--variants", tmp_path / "variants.txt",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count(": 2 of the 4 variants in") == 1
    genotypes = read_genotypes(tmp_path / "out.h5ad")
    assert genotypes.sample_ids == ["A00", "D09"]
    columns = [150, 151]
    np.testing.assert_array_equal(
        genotypes.dosages, np.tile(cohort.dosages[np.ix_([0, 39], columns)], 2)
    )


def test_several_alt_alleles(run, cohort, tmp_path):
    lines = cohort.take(variants=slice(4)).lines()
    cells = lines[3].split("\t")
    lines[3] = "\t".join([*cells[:4], cells[4] + ",T", *cells[5:]])
    vcf = tmp_path / "cohort.vcf"
    vcf.write_text("\n".join(lines) + "\n")
    result = run("convert", vcf, tmp_path / "out.bed")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path}/out.bed cannot hold variant 1:2000000:")
    result = run("convert", vcf, tmp_path / "out.bed", "--skip-multiallelic")
    assert result.exit_code == 0, result.stderr
    assert "Note: 1 variants with several ALT alleles were left out." in result.stderr
    result = run("convert", vcf, tmp_path / "out.bed", "--skip-multiallelic")
    assert result.exit_code == 1
    assert "exists; choose another name" in result.stderr
    assert (
        run("convert", vcf, tmp_path / "out.bed", "--skip-multiallelic", "--force").exit_code == 0
    )


@pytest.mark.parametrize("suffix", [".pgen", ".vcz"])
def test_embed_reads_the_selection(run_quick, run, cohort, tmp_path, suffix):
    vcf = cohort.vcf(tmp_path / "cohort.vcf")
    assert run("convert", vcf, tmp_path / f"cohort{suffix}").exit_code == 0
    keep = tmp_path / "keep.txt"
    keep.write_text("".join(f"{name}\n" for name in reversed(cohort.ids[5:])))
    result = run_quick(
        tmp_path / f"cohort{suffix}", "--region", "chrX2", "--samples", keep,
        "--out", tmp_path / "map",
    )  # fmt: skip
    assert "Found 35 samples x 150 variants in 1 file: less than 1 MB of calls" in result.stderr
    table = pd.read_csv(tmp_path / "map" / "embedding.tsv", sep="\t")
    assert table["sample_id"].tolist() == cohort.ids[5:]
    provenance = json.loads((tmp_path / "map" / "provenance.json").read_text())
    assert provenance["parameters"]["region"] == ["chrX2"]
    assert str(keep) in [entry["path"] for entry in provenance["inputs"]]
    placed = run(
        "project", tmp_path / "map" / "model", vcf, "--region", "chrX2", "--samples", keep,
        "--out", tmp_path / "placed",
    )  # fmt: skip
    assert placed.exit_code == 0, placed.stderr
    for name in ("map", "placed"):
        qc = pd.read_csv(tmp_path / name / "qc.tsv", sep="\t")
        assert qc.iloc[:2].values.tolist() == [
            ["samples", "not asked for", 40, 5, 35, f"not in {keep}"],
            ["variants", "not asked for", 300, 150, 150, "outside chrX2"],
        ]
    report = (tmp_path / "map" / "report.html").read_text()
    assert "not asked for" in report


def test_what_an_index_spared_reading_is_not_counted(cohort, tmp_path):
    pytest.importorskip("cyvcf2")
    text = cohort.vcf(tmp_path / "cohort.vcf")
    vcf, names = tmp_path / "cohort.vcf.gz", tmp_path / "names.txt"
    names.write_text("rs150\nrs151\n")
    for command in (["bcftools", "view", "-Oz", "-o", vcf, text], ["bcftools", "index", vcf]):
        if shutil.which("bcftools") is None:
            pytest.skip("bcftools is not installed")
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    asked = {"region": ("chrX2",), "samples": None, "variants": str(names)}
    cohorts = [
        read_cohort((str(path),), "auto", None, None, None, Notes(), asked) for path in (vcf, text)
    ]
    detail = f"outside chrX2 or not in {names}"
    spared = f"{detail}: not counted, since the index spared reading them"
    assert [found.not_selected for found in cohorts] == [
        [("variants", "not asked for", 2, 0, 2, spared)],
        [("variants", "not asked for", 300, 298, 2, detail)],
    ]


@pytest.mark.parametrize("suffix", [".vcf", ".bed", ".tsv"])
def test_a_file_is_opened_once(cohort, tmp_path, monkeypatch, suffix):
    if suffix == ".tsv":
        scores = pd.DataFrame({"PC1": 0.5, "PC2": np.arange(40)}, index=cohort.ids)
        path = tmp_path / "pcs.tsv"
        scores.to_csv(path, sep="\t", index_label="sample_id")
    else:
        path = getattr(cohort, suffix[1:])(tmp_path / f"cohort{suffix}")
    opened = []
    opening = reading._open_one
    monkeypatch.setattr(
        reading, "_open_one", lambda path, *more: opened.append(path) or opening(path, *more)
    )
    everything = dict.fromkeys(("region", "samples", "variants"))
    found = read_cohort((str(path),), "auto", None, None, None, Notes(), everything)
    assert found.sample_ids == cohort.ids
    assert found.not_selected == []
    assert opened == [str(path)]


def test_a_wrong_contig_lists_those_that_exist(cohort, fails, tmp_path):
    vcf = cohort.vcf(tmp_path / "cohort.vcf")
    fails("embed", vcf, "--region", "X2", says=("contig 'X2'", "its contigs are 1, chrX2"))
