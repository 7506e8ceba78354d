"""What users bring: each case works, or fails with one message, status 1 and nothing written."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

MAP = ["ddvi1", "ddvi2"]
QUICK = ("--n-epochs", "5", "--n-clusters", "4")


def edit(line, column, change):
    """Change one tab-separated cell of a line."""
    cells = line.split("\t")
    cells[column] = change(cells[column])
    return "\t".join(cells)


def save(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


# ------------------------------------------------------------------------------- broken genotypes


@pytest.mark.parametrize("name", ["cohort.vcf", "cohort.vcf.gz", "cohort.bed", "pcs.tsv"])
def test_an_empty_file(fails, tmp_path, name):
    (tmp_path / name).touch()
    fails("embed", tmp_path / name, says=(f"{tmp_path / name} is empty", "again"))


def test_a_file_that_does_not_exist(fails, tmp_path):
    fails("embed", tmp_path / "x.vcf", says=(f"{tmp_path}/x.vcf does not exist", "check the name"))


def test_a_directory(fails, tmp_path):
    (tmp_path / "data").mkdir()
    fails("embed", tmp_path / "data", says=("is a directory", "give the genotype files"))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_archive(fails, cohort, tmp_path, share):
    file = cohort.vcf(tmp_path / "cohort.vcf.gz")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    fails("embed", file, says=(str(file), "truncated", "again"))


def test_a_truncated_text(fails, cohort, tmp_path):
    file = cohort.vcf(tmp_path / "cohort.vcf")
    file.write_text(file.read_text()[:-60])
    fails("embed", file, says=(f"{file}, line 302", "the header has 49"))


def test_a_text_that_is_no_vcf(fails, tmp_path):
    file = save(tmp_path / "notes.vcf", ["Dear diary,", "today I sequenced 40 people."])
    fails("embed", file, says=(f"{file} is no VCF", "Dear diary"))
    file = save(tmp_path / "notes.md", ["Dear diary,"])
    fails("embed", file, says=(str(file), "what is read here is"))


def test_a_vcf_without_calls(fails, cohort, tmp_path):
    lines = cohort.lines()
    file = save(tmp_path / "a.vcf", [*lines[:2], *(edit(x, 8, lambda _: "DP") for x in lines[2:])])
    fails("embed", file, says=(str(file), "GT"))
    file = save(tmp_path / "b.vcf", ["\t".join(line.split("\t")[:9]) for line in lines])
    fails("embed", file, says=(str(file), "no samples"))
    file = save(tmp_path / "c.vcf", lines[:2])
    fails("embed", file, says=(str(file), "no records"))


def test_duplicate_sample_ids(fails, cohort, tmp_path):
    lines = cohort.lines()
    lines[1] = lines[1].replace("B03", "A01")
    fails("embed", save(tmp_path / "c.vcf", lines), says=("'A01' occurs twice", "c.vcf", "rename"))


def test_only_rare_variants(fails, cohort, tmp_path):
    singletons = np.eye(40, 300, dtype=int)
    singletons[:, 40:] = np.eye(40)[:, np.arange(260) % 40]
    file = cohort.with_calls(singletons).vcf(tmp_path / "rare.vcf")
    fails("embed", file, says=("No variant is left", "minor allele count", "--min-mac"))


def test_samples_that_do_not_differ(fails, cohort, tmp_path):
    file = cohort.with_calls(np.zeros((40, 300), int)).vcf(tmp_path / "same.vcf")
    fails("embed", file, says=("No variant is left", "monomorphic"))


def test_one_sample(fails, cohort, tmp_path):
    file = cohort.take([0]).vcf(tmp_path / "one.vcf")
    fails("embed", file, says=("1 sample", "ancestryvi project"))


def test_files_of_different_samples(fails, cohort, tmp_path):
    first = cohort.take(slice(0, 30)).vcf(tmp_path / "first.vcf")
    second = cohort.take(slice(5, 40)).vcf(tmp_path / "second.vcf")
    fails("embed", first, second, says=("first.vcf", "second.vcf", "5 only in", "10 only in"))


def test_scores_with_a_gap(fails, embedded, tmp_path):
    table = embedded.table("pcs.tsv")
    table.loc[3, "PC2"] = np.nan
    table.to_csv(tmp_path / "pcs.tsv", sep="\t", index=False)
    fails("embed", tmp_path / "pcs.tsv", says=("'A03'", "'PC2'", "no finite number"))


def test_more_scores_asked_for_than_there_are(fails, embedded):
    fails("embed", embedded.out / "pcs.tsv", "--n-pcs", 99, says=("99 were asked for", "--n-pcs"))


def test_a_device_that_is_not_there(fails, embedded):
    fails("embed", embedded.vcf, "--device", "cuda:99", says=("'cuda:99'", "'cpu'"))


# ----------------------------------------------------------------------------------------- labels


def test_labels_of_other_samples(fails, embedded, tmp_path):
    file = save(tmp_path / "labels.tsv", ["sample\tpopulation", "nobody\tX"])
    fails(
        "embed", embedded.vcf, "--labels", file,
        says=(f"{file} knows none of the 40 samples", "A00", "nobody"),
    )  # fmt: skip


def test_the_wrong_columns_of_labels(fails, embedded):
    given = ("embed", embedded.vcf, "--labels", embedded.labels)
    fails(*given, "--label-id", "person", says=("no column 'person'", "'sample'", "'region'"))
    fails(*given, "--label-id", "region", says=(str(embedded.labels), "'west'"))
    fails(*given, "--label-column", "tribe", says=("no column 'tribe'", "'population'"))


@pytest.mark.parametrize("column", ["cluster", "probability", "ddvi1", "sample_id", "call_rate"])
def test_a_label_column_named_like_one_of_ours(fails, embedded, cohort, tmp_path, column):
    file = save(tmp_path / "l.tsv", [f"who\t{column}", *(f"{name}\tx" for name in cohort.ids)])
    fails(
        "embed", embedded.vcf, "--labels", file, "--label-id", "who",
        says=(f"{file} has a column '{column}'", "rename it"),
    )  # fmt: skip


def test_labels_that_do_not_exist(fails, embedded, tmp_path):
    fails("embed", embedded.vcf, "--labels", tmp_path / "none.tsv", says=("none.tsv is no file",))


# ----------------------------------------------------------------------------------------- output


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none", "/proc/none/below"])
def test_where_nothing_can_be_written(fails, embedded, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    out = place if place.startswith("/") else tmp_path / place
    fails("embed", embedded.vcf, out=out, says=(str(out), "directory"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_in_use(fails, embedded, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    fails("embed", embedded.vcf, says=(f"{out} exists and is not empty", "--force"))
    fails("project", embedded.out / "model", embedded.vcf, says=("not empty", "--force"))


def test_a_failure_with_force_keeps_what_was_there(fails, embedded, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "embedding.tsv").write_text("an earlier run")
    (tmp_path / "empty.vcf").touch()
    fails("embed", tmp_path / "empty.vcf", "--force", says=("is empty",))
    assert (out / "embedding.tsv").read_text() == "an earlier run"


def test_a_failure_leaves_no_folders_that_were_made_for_the_output(fails, embedded, tmp_path):
    (tmp_path / "empty.vcf").touch()
    fails("embed", tmp_path / "empty.vcf", out=tmp_path / "a/b/c", says=("is empty",))


def test_debug_shows_the_traceback(run, tmp_path):
    (tmp_path / "empty.vcf").touch()
    result = run("embed", tmp_path / "empty.vcf", "--out", tmp_path / "out", "--debug")
    assert type(result.exception).__name__ == "InputFormatError"  # raised, so Python prints it
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------- it works anyway


@pytest.fixture
def embed(run_quick, tmp_path):
    """Return a function that embeds and returns the table and what was said."""

    def run(*arguments):
        stderr = run_quick(*arguments, "--out", tmp_path / "out").stderr
        return pd.read_csv(tmp_path / "out" / "embedding.tsv", sep="\t"), stderr

    return run


def test_two_samples(run, cohort, tmp_path):
    file = cohort.take([0, 39]).vcf(tmp_path / "two.vcf")
    out = tmp_path / "out"
    result = run("embed", file, "--out", out, "--n-clusters", 2, "--n-epochs", 5)
    assert result.exit_code == 0, result.stderr
    assert len(pd.read_csv(out / "embedding.tsv", sep="\t")) == 2


def test_more_clusters_than_samples(run, cohort, tmp_path):
    file = cohort.take(slice(0, 40, 5)).vcf(tmp_path / "eight.vcf")
    out = tmp_path / "out"
    result = run("embed", file, "--out", out, "--n-clusters", 20, "--n-epochs", 5)
    assert result.exit_code == 0, result.stderr
    assert "Note: n_clusters=20 is more than the 8 samples" in result.stderr
    assert "n_clusters=20 is more than the 8 samples" in (out / "report.html").read_text()


def test_a_sample_without_calls(embed, embedded, cohort, tmp_path):
    calls = cohort.dosages.copy()
    calls[12] = -1
    table, stderr = embed(cohort.with_calls(calls).vcf(tmp_path / "silent.vcf"))
    assert list(table["sample_id"]) == cohort.ids
    assert table.loc[12, [*MAP, "cluster", "probability"]].isna().all()
    assert table.drop(index=12).notna().all(axis=None)
    notes = [line for line in stderr.splitlines() if line.startswith("Note: ")]
    assert any("B02" in line and "no calls" in line for line in notes)
    qc = pd.read_csv(tmp_path / "out" / "qc.tsv", sep="\t")
    assert qc.set_index("step").loc["no calls", "detail"].endswith(": B02")
    assert "B02" in (tmp_path / "out" / "report.html").read_text()


def test_a_sample_of_few_calls_is_named(embed, cohort, tmp_path):
    calls = cohort.dosages.copy()
    calls[12, ::2] = -1
    table, stderr = embed(cohort.with_calls(calls).vcf(tmp_path / "poor.vcf"))
    assert table.loc[12, MAP].notna().all()
    assert "1 sample set aside, sample call rate" in stderr
    assert "B02" in stderr


def test_samples_that_cost_most_variants_are_pointed_at(embed, cohort, tmp_path):
    calls = cohort.dosages.copy()
    rng = np.random.default_rng(0)
    calls[:8] = np.where(rng.random(calls[:8].shape) < 0.5, -1, calls[:8])
    _, stderr = embed(cohort.with_calls(calls).vcf(tmp_path / "poor.vcf"))
    assert "variants are called in less than 0.95 of 40 samples. If some samples" in stderr


def test_variants_of_sex_chromosomes_are_left_out_and_counted(embed, cohort, tmp_path):
    half = cohort.on_contigs({"1": "1", "chrX2": "chrX"})
    n_off = sum(line.startswith("chrX\t") for line in half.lines())
    _, stderr = embed(half.vcf(tmp_path / "cohort.vcf"))
    assert f"Note: {n_off} variants are on a sex chromosome or mitochondrial" in stderr
    qc = pd.read_csv(tmp_path / "out" / "qc.tsv", sep="\t").set_index("step")
    assert qc.loc["not autosomal", "dropped"] == n_off > 0
    variants = pd.read_csv(tmp_path / "out" / "model" / "variants.tsv", sep="\t")
    assert set(variants["contig"].astype(str)) == {"1"}
    _, stderr = embed(half.vcf(tmp_path / "again.vcf"), "--force", "--keep-sex-chromosomes")
    assert "sex chromosome" not in stderr


@pytest.mark.parametrize("names", [("LT635612.1", "Sca100"), ("chr37", "chrUn_KN707606v1_decoy")])
def test_contigs_of_any_name(embed, embedded, cohort, tmp_path, names):
    other = cohort.on_contigs(dict(zip(("1", "chrX2"), names, strict=True)))
    table, _ = embed(other.vcf(tmp_path / "cohort.vcf"))
    np.testing.assert_allclose(table[MAP], embedded.table("embedding.tsv")[MAP], atol=1e-6)
    variants = pd.read_csv(tmp_path / "out" / "model" / "variants.tsv", sep="\t")
    assert set(variants["contig"]) == set(names)


def test_half_calls_are_missing_and_haploid_calls_homozygous(embed, cohort, tmp_path):
    lines = cohort.lines()
    as_half = [x.replace("./.", "0/.") for x in lines]
    as_haploid = [x.replace("0/0", "0").replace("1/1", "1") for x in as_half]
    assert as_haploid != as_half != lines
    table, _ = embed(save(tmp_path / "plain.vcf", lines))
    other, _ = embed(save(tmp_path / "odd.vcf", as_haploid), "--force")
    np.testing.assert_allclose(other[MAP], table[MAP], atol=1e-6)


def test_plain_gzip_and_windows_line_ends(embed, embedded, cohort, tmp_path):
    file = tmp_path / "cohort.vcf.gz"
    file.write_bytes(gzip.compress("\r\n".join([*cohort.lines(), ""]).encode()))
    table, _ = embed(file)
    np.testing.assert_allclose(table[MAP], embedded.table("embedding.tsv")[MAP], atol=1e-6)


def test_labels_with_a_slash_and_numbers_for_names(embed, embedded, cohort, tmp_path):
    rows = [f"{name},{i % 3},a/b" for i, name in enumerate(cohort.ids)]
    file = save(tmp_path / "labels.csv", ["IID,1,x/y", *rows])
    table, _ = embed(embedded.vcf, "--labels", file)
    assert list(table.columns[7:]) == ["1", "x/y"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["label_column"] == "1"
