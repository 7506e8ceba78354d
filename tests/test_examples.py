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


def test_map_from_python(tmp_path):
    script = ROOT / "examples" / "map_from_python.py"
    subprocess.run(
        [sys.executable, script, "--out", tmp_path, "--n-epochs", "10"], check=True, timeout=300
    )
    table = pd.read_csv(tmp_path / "map.tsv", sep="\t")
    assert len(table) == 520
    assert table["new"].sum() == 52
    assert table[["ddvi1", "ddvi2"]].notna().all(axis=None)


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
    for verb in ("embed", "project", "info"):
        assert verb in result.output


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake (\w+)", "\n".join(blocks("bash"))))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
