"""The scripts of examples/ run, and the README's commands and Python are true."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
from click.testing import CliRunner

from ancestryvi.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run_example(name: str, *arguments: object) -> str:
    """Run a script of examples/; what it printed."""
    command = [sys.executable, ROOT / "examples" / name, *arguments]
    run = subprocess.run(
        [str(word) for word in command], check=True, timeout=300, capture_output=True, text=True
    )
    return run.stdout


def test_map_from_python(tmp_path):
    run_example("map_from_python.py", "--out", tmp_path, "--n-epochs", 10)
    table = pd.read_csv(tmp_path / "map.tsv", sep="\t")
    assert len(table) == 520
    assert table["new"].sum() == 52
    assert table[["ddvi1", "ddvi2"]].notna().all(axis=None)


def test_compare_methods(tmp_path):
    run_example("compare_methods.py", "--out", tmp_path, "--n-epochs", 5, "--seeds", 1)
    page = (tmp_path / "benchmark.html").read_text(encoding="utf-8")
    for name in ("20 steps", "beta 0.5", "UMAP, Ward", "linear discriminant"):
        assert name in page
    assert len(list((tmp_path / "runs").glob("*.json"))) == 3


def test_add_a_method_is_short_and_runs():
    source = (ROOT / "examples" / "add_a_method.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60
    printed = run_example("add_a_method.py", "--n-epochs", 20)
    scores = dict(re.findall(r"^(.+): NMI ([\d.]+)", printed, flags=re.MULTILINE))
    assert scores.keys() == {"aevb", "aevb-full"}
    assert all(float(score) > 0.3 for score in scores.values())


def test_python_of_the_readme_runs_from_first_to_last(tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python")) >= 2
    names = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    unlabelled = pd.isna(names["known"])
    right = names["populations"] == names["labels"].loc[names["genotypes"].sample_ids]
    assert right[unlabelled].mean() > 0.7


def test_every_command_of_the_readme_is_valid(tmp_path):
    """Each `ancestryvi` line parses: its verb and its options exist."""
    commands = [
        line.split() for block in blocks("bash") for line in block.splitlines() if line.strip()
    ]
    verbs = [words[1:] for words in commands if words[0] == "ancestryvi"]
    assert verbs
    for words in verbs:
        verb = main.commands[words[0]]
        known = {option for parameter in verb.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_help_lists_every_verb():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for verb in ("embed", "project", "benchmark", "convert", "info", "fetch"):
        assert verb in result.output


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake (\w+)", "\n".join(blocks("bash"))))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
