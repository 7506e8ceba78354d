"""Every method on 1000 Genomes by `ancestryvi benchmark`, default settings: table 3 and figure 4.

One command for all of it; stopped and started again with the same --work, it goes on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from common import ROOT, by_name, machine, markdown, parser, write

CLI = [sys.executable, "-c", "from ancestryvi.cli import main; main()"]
NAMES = ("1000g-pcs", "1000g-26pop")
SHOWN = {"nmi": "NMI", "ari": "ARI", "knn_accuracy": "kNN acc.", "seconds": "s"}


def run(name: str, options: list[str], data: Path, out: Path) -> pd.DataFrame:
    """The summary of one data set; runs that are there already are not repeated."""
    data_set = by_name(name)
    command = [*CLI, "benchmark", *data_set.paths(data), "--labels", data_set.labels(data)]
    command += ["--n-clusters", str(data_set.n_clusters), "--out", str(out), *options]
    subprocess.run(command, check=True)
    return pd.read_csv(out / "benchmark.tsv", sep="\t", index_col="method")


def cell(row: pd.Series, score: str) -> str:
    """Mean and half width; seconds without it."""
    mean, half = row[f"{score}_mean"], row[f"{score}_half_width"]
    if pd.isna(mean):
        return "failed"
    if score == "seconds":
        return f"{mean:.0f}" if mean >= 10 else f"{mean:.1f}"
    return f"{mean:.3f} ± {half:.3f}"


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    options.add_argument("--work", type=Path, help="where runs are kept; default: nowhere")
    arguments = options.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    given = ["--seeds", str(arguments.seeds), "--jobs", str(arguments.jobs)]
    tables = {name: run(name, given, arguments.data, work / name) for name in NAMES}
    images = ROOT / "docs" / "images"
    for name in NAMES:
        for figure in ("maps", "nmi-time"):
            shutil.copyfile(work / name / f"{figure}.png", images / f"{figure}-{name}.png")
    first = tables[NAMES[0]].sort_values("nmi_mean", ascending=False)
    rows = []
    for method in first.index:
        row: dict[str, object] = {"method": f"`{method}`"}
        for name in NAMES:
            for score, title in SHOWN.items():
                row[f"{title}, {name}"] = cell(tables[name].loc[method], score)
        rows.append(row)
    jobs = f", with {arguments.jobs} runs at a time" if arguments.jobs > 1 else ""
    lines = [f"{name}: {references(work / name / 'benchmark.md')}" for name in NAMES]
    write(
        "methods",
        f"`python benchmarks/methods.py --seeds {arguments.seeds} --jobs {arguments.jobs}` on "
        f"{machine()}.\n\n"
        "All methods with default settings on the same PCs, K = 20 and 26; mean and 95 % "
        f"t-interval over seeds. s: wall time of `fit`{jobs}. For comparison, NMI: "
        f"{'; '.join(lines)}.\n\n" + markdown(rows),
    )


def references(report: Path) -> str:
    """The lines below the methods, which are there for comparison, and their NMI."""
    rows = [line.split(" | ")[:2] for line in report.read_text(encoding="utf-8").splitlines()]
    named = ("| linear", "| perfect")
    return ", ".join(f"{row[0][2:]} {row[1]}" for row in rows if row[0].startswith(named))


if __name__ == "__main__":
    main()
