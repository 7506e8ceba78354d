"""Imports run one way, front to back, and importing the package costs little.

The tables below are the rule; to change the design, change them and the README's picture together.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "ancestryvi"

# layer -> the layers it may import, besides itself; the front door is ancestryvi/__init__.py
READING = {"exceptions", "genotypes"}
INPUT = READING | {"preprocess"}
MAY_IMPORT: dict[str, set[str]] = {
    "exceptions": set(),
    "device": set(),
    "staging": {"exceptions"},
    "genotypes": {"exceptions", "staging"},
    "datasets": {"exceptions"},
    "preprocess": READING | {"device"},
    "models": {"exceptions"},
    "training": {"exceptions", "device", "models"},
    "persistence": {"exceptions", "staging"},
    "estimators": INPUT | {"models", "training", "persistence"},
    "evaluate": INPUT | {"estimators"},
    "report": INPUT | {"estimators", "evaluate"},  # it explains the scores it shows
    "cli": INPUT
    | {"device", "datasets", "estimators", "evaluate", "report", "persistence", "front door"},
    "front door": INPUT | {"estimators", "evaluate", "report", "persistence"},
}
# library -> the layers that must not import it; anything below the name counts too
WITH_TORCH = {"device", "models", "training", "estimators"}
MUST_NOT_USE: dict[str, set[str]] = {
    "torch": MAY_IMPORT.keys() - WITH_TORCH,
    "safetensors.torch": MAY_IMPORT.keys() - WITH_TORCH,
    "sklearn": {"exceptions", "device", "genotypes", "models", "front door"},
}
# Components of a large cohort are computed on a GPU where there is one, and torch is how. It takes
# seconds to load, so that in `preprocess` one file has it, which is imported when it is needed.
ON_DEMAND = {"gpu": {"torch", "ancestryvi.device"}}  # file of preprocess -> what only it imports

FILES = sorted(PACKAGE.rglob("*.py"))


class Import(NamedTuple):
    module: str
    line: int


def imports(source: str) -> Iterator[Import]:
    """Every import of a file, also the ones inside functions, as absolute dotted names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)


def layer_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return {"__init__": "front door", "__main__": "cli"}.get(name, name)


def violations(layer: str, source: str, file: str = "") -> list[str]:
    """What the imports of a file of this layer break, one sentence each."""
    found = []
    on_demand = set().union(*ON_DEMAND.values()) if layer == "preprocess" else set()
    for module, line in imports(source):
        if any(f"{module}.".startswith(f"{name}.") for name in on_demand):
            if file not in ON_DEMAND:
                found.append(f"line {line}: only {', '.join(ON_DEMAND)} may use {module}")
            continue
        if module.startswith("."):
            found.append(f"line {line}: relative import of {module}")
            continue
        for library, layers in MUST_NOT_USE.items():
            if layer in layers and f"{module}.".startswith(f"{library}."):
                found.append(f"line {line}: {layer} must not use {library}")
        package, *rest = module.split(".")
        if package != PACKAGE.name or rest == ["__version__"]:  # the version belongs to no layer
            continue
        target = rest[0] if rest and rest[0] in MAY_IMPORT else "front door"
        allowed = target == layer or target in MAY_IMPORT[layer]
        if not allowed:
            found.append(f"line {line}: {layer} must not import {target}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    layer = layer_of(path)
    assert layer in MAY_IMPORT, f"{path.name} is in no layer; give it a row in MAY_IMPORT"
    assert violations(layer, path.read_text(encoding="utf-8"), path.stem) == []


def test_the_table_has_no_way_back() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()  # raises on a cycle


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("exceptions", "import ancestryvi.genotypes"),
        ("genotypes", "from ancestryvi.models.ddvi import DDVI"),
        ("genotypes", "from ancestryvi import preprocess"),
        ("genotypes", "from ancestryvi import AncestryDDVI"),
        ("genotypes", "from sklearn.decomposition import PCA"),
        ("genotypes", "def read():\n    import torch"),
        ("preprocess", "import torch.nn as nn"),
        ("preprocess", "from ancestryvi.device import resolve_device"),
        ("preprocess", "from ancestryvi.training import loop"),
        ("models", "from ancestryvi.genotypes import Genotypes"),
        ("models", "import sklearn"),
        ("training", "if True:\n    from ancestryvi.preprocess import pca"),
        ("estimators", "from ancestryvi.cli import main"),
        ("persistence", "from ancestryvi.estimators import ddvi"),
        ("evaluate", "from ancestryvi.report import figures"),
        ("evaluate", "import torch"),
        ("report", "import os, torch"),
        ("persistence", "from safetensors.torch import save_file"),
        ("persistence", "from safetensors import torch"),
        ("cli", "from ancestryvi.models import ddvi"),
        ("front door", "from ancestryvi.models import ddvi"),
        ("genotypes", "from .. import models"),
        ("genotypes", "class Reader:\n    def read(self):\n        from ancestryvi import cli"),
    ],
)
def test_a_wrong_import_is_found(layer: str, source: str) -> None:
    assert len(violations(layer, source)) == 1


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("genotypes", "from ancestryvi.genotypes.source import Block\nimport numpy"),
        ("genotypes", "import torchvision, sklearnex  # other libraries that begin alike"),
        ("preprocess", "from sklearn.base import BaseEstimator\nimport ancestryvi.genotypes"),
        ("training", "import torch\nfrom ancestryvi import models"),
        ("estimators", "def save(self):\n    from ancestryvi.persistence import save_model"),
        ("persistence", "from ancestryvi.exceptions import OutputError\nimport safetensors.numpy"),
        ("persistence", "from ancestryvi import __version__"),
        ("cli", "from ancestryvi import read_genotypes"),
    ],
)
def test_a_right_import_passes(layer: str, source: str) -> None:
    assert violations(layer, source) == []


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running this code."""
    code += "\nimport sys\nprint('loaded:', *sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    *_, last = run.stdout.splitlines()
    return set(last.split()[1:])


def test_importing_the_package_loads_neither_torch_nor_sklearn() -> None:
    loaded = loaded_after("import ancestryvi")
    assert "ancestryvi" in loaded
    assert not loaded & {"torch", "sklearn"}


def test_asking_for_help_loads_neither_torch_nor_sklearn() -> None:
    loaded = loaded_after(
        "import click\n"
        "from ancestryvi.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "for verb in main.list_commands(click.Context(main)):\n"
        "    main([verb, '--help'], standalone_mode=False)"
    )
    assert "ancestryvi.cli" in loaded
    assert not loaded & {"torch", "sklearn"}


def test_components_of_a_small_cohort_do_not_load_torch() -> None:
    loaded = loaded_after(
        "import numpy as np\n"
        "from ancestryvi import GenotypePCA\n"
        "GenotypePCA(2).fit(np.random.default_rng(0).binomial(2, 0.4, size=(20, 200)))"
    )
    assert "ancestryvi.preprocess.where" in loaded
    assert not loaded & {"torch", "ancestryvi.preprocess.gpu"}


def test_every_public_name_resolves() -> None:
    import ancestryvi

    assert len(set(ancestryvi.__all__)) == len(ancestryvi.__all__) > 0
    for name in ancestryvi.__all__:
        assert getattr(ancestryvi, name) is not None
        assert name in dir(ancestryvi)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ancestryvi.no_such_name
