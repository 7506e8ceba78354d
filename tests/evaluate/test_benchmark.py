import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics
from sklearn.manifold import trustworthiness
from sklearn.pipeline import Pipeline

from ancestryvi.evaluate import (
    Run,
    median_run,
    run_benchmark,
    run_table,
    summary_table,
    supervised_ceiling,
)
from ancestryvi.evaluate.runs import RunFolder
from ancestryvi.exceptions import InputFormatError, LabelError, OutputError, SampleError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def toys():
    """The module of toy methods, importable here and in processes that start from here."""
    sys.path.insert(0, str(HERE))
    yield import_module("toy_methods")
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(5)
    centres = np.repeat([[-4, 0, 0], [4, 3, 0], [4, -3, 1]], 30, axis=0)
    index = [f"S{i:02d}" for i in range(90)]
    return pd.DataFrame(centres + rng.normal(size=(90, 3)), index, ["PC1", "PC2", "PC3"])


@pytest.fixture(scope="module")
def labels():
    names = np.repeat(["YRI", "GBR", "JPT"], 30).astype(object)
    names[[7, 50]] = None
    return names


def keys(runs):
    return [(run.method, run.seed) for run in runs]


# ---- one run -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(toys, features, labels, tmp_path_factory):
    """One run, started from a process that once held 700 MB."""
    np.ones(700 * 2**17)  # released at once, but in the peak of this process
    folder = tmp_path_factory.mktemp("scored") / "runs"
    return run_benchmark(features, labels, {"p": toys.Partial()}, seeds=[4], folder=folder)[0]


def test_scores_are_those_of_scikit_learn(scored, features, labels):
    assert (scored.method, scored.seed, scored.error) == ("p", 4, None)
    clusters = (features["PC1"] > 0).astype(int).to_numpy()
    clusters[:5] = -1
    assert_array_equal(scored.labels, clusters)
    known = np.array([label is not None for label in labels])
    true, found = labels[known].astype(str), clusters[known]
    s = scored.scores
    assert s["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(true, found))
    assert s["ari"] == pytest.approx(metrics.adjusted_rand_score(true, found))
    assert s["ami"] == pytest.approx(metrics.adjusted_mutual_info_score(true, found))
    assert s["purity"] == pytest.approx((5 + 24 + 30) / 88)
    placed = features.iloc[5:]
    expected = trustworthiness(placed, placed.iloc[:, :2], n_neighbors=20)
    assert s["trustworthiness"] == pytest.approx(expected)
    assert 0.9 < s["knn_accuracy"] <= 1
    assert s["log_density"] == -90
    assert (s["n_clusters"], s["n_unplaced"]) == (2, 5)


def test_the_map_is_that_of_the_method(scored, features):
    assert np.isnan(scored.embedding[:5]).all()
    assert_allclose(scored.embedding[5:], features.iloc[5:, :2], rtol=1e-6)


def test_memory_is_that_of_the_process_and_not_of_the_one_that_started_it(scored):
    assert 30 < scored.scores["peak_mb"] < 600


def test_seconds_are_those_of_the_fit_without_the_start_of_python(scored):
    assert 0 < scored.scores["seconds"] < 0.1


@pytest.mark.parametrize(
    ("jobs", "own", "given"), [(1, None, 0), (2, None, 3), (9, None, 1), (2, "5", 5)]
)
def test_runs_at_the_same_time_share_the_cores(
    jobs, own, given, toys, features, labels, tmp_path, monkeypatch
):
    """Unless the environment says how many threads there are to be."""
    monkeypatch.setattr("ancestryvi.evaluate.benchmark.n_threads", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if own is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    (run,) = run_benchmark(
        features, labels, {"m": toys.Threads()}, seeds=1, folder=tmp_path / "runs", jobs=jobs
    )
    assert run.error is None
    assert (run.embedding == given).all()


# ---- failures ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failed(toys, features, labels, tmp_path_factory):
    """One method that works among others that fail, each in its way."""
    folder = tmp_path_factory.mktemp("failed") / "runs"
    quick = {name: getattr(toys, name)() for name in ("Raises", "Exits", "Crashes", "Flat")}
    limits = {"memory_limit": 0.5, "jobs": 2}
    lines = []
    run_benchmark(
        features, labels, {**quick, "Swells": toys.Swells(), "Halves": toys.Halves()},
        seeds=1, folder=folder, progress=lines.append, **limits,
    )  # fmt: skip
    runs = run_benchmark(
        features, labels, {"Hangs": toys.Hangs()}, seeds=1, folder=folder, time_limit=3
    )
    return {run.method: run for run in runs}, lines


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("Raises", "ValueError: no convergence after 7 steps"),
        ("Exits", "ended with exit status 3 before it was done: cannot go on"),
        ("Crashes", "crashed: killed by SIGSEGV"),
        ("Hangs", "over the time limit of 3 s"),
        ("Swells", "over the memory limit of 0.5 GB"),
    ],
)
def test_a_run_that_fails_says_why(failed, method, reason):
    runs, _ = failed
    assert runs[method].error == reason
    assert runs[method].scores == {}
    assert runs[method].embedding is None


def test_a_map_of_another_shape_is_refused(failed):
    assert "embedding_ has shape (90, 1)" in failed[0]["Flat"].error


def test_the_others_go_on(failed):
    assert failed[0]["Halves"].error is None


def test_an_error_keeps_its_traceback(failed):
    assert "toy_methods.py" in failed[0]["Raises"].log


def test_each_run_is_told_in_a_line(failed):
    lines = sorted(failed[1])
    assert len(lines) == 6
    assert lines[0] == "Crashes, seed 0: failed, crashed: killed by SIGSEGV"
    assert next(line for line in lines if line.startswith("Halves")).startswith(
        "Halves, seed 0: NMI 0.7"
    )


def test_a_failed_run_is_a_row_of_the_tables(failed):
    runs = list(failed[0].values())
    table = run_table(runs).set_index("method")
    assert table.loc["Hangs", "error"] == "over the time limit of 3 s"
    assert np.isnan(table.loc["Hangs", "nmi"])
    assert table.loc["Halves", "error"] == ""
    summary = summary_table(runs).set_index("method")
    assert summary.index[0] == "Halves"
    assert list(summary.loc["Exits", ["n_runs", "n_failed"]]) == [0, 1]
    assert summary.loc["Hangs", "why"] == "over the time limit of 3 s (seed 0)"


def test_a_method_that_cannot_be_pickled_is_a_row(toys, features, labels, tmp_path):
    method = toys.Halves(notes=lambda: None)
    (run,) = run_benchmark(features, labels, {"m": method}, seeds=1, folder=tmp_path)
    assert run.error.startswith("cannot be sent to a process of its own")


# ---- going on ----------------------------------------------------------------------------------


def test_only_what_is_missing_or_failed_is_run(toys, features, labels, tmp_path):
    notes = tmp_path / "notes"

    def fitted(methods, seeds):
        notes.write_text("")
        runs = run_benchmark(features, labels, methods, seeds=seeds, folder=tmp_path / "runs")
        return runs, sorted(line.rsplit(" ", 1)[0] for line in notes.read_text().splitlines())

    first = {"a": toys.Halves(notes=str(notes)), "b": toys.Raises(notes=str(notes))}
    runs, fits = fitted(first, 1)
    assert fits == ["Halves 0", "Raises 0"]  # the seed is the method's random_state
    assert [run.error is None for run in runs] == [True, False]
    Path(f"{notes}.mended").touch()
    runs, fits = fitted(first, 1)
    assert fits == ["Raises 0"]
    assert [run.error is None for run in runs] == [True, True]
    runs, fits = fitted({"c": toys.Halves(notes=str(notes)), "a": first["a"]}, 1)
    assert fits == ["Halves 0"]
    assert keys(runs) == [("c", 0), ("a", 0), ("b", 0)]  # asked for, then earlier ones
    runs, fits = fitted(first, [0, 3])
    assert fits == ["Halves 3", "Raises 3"]
    assert fitted(first, [0, 3])[1] == []
    assert len(list((tmp_path / "runs").iterdir())) == 5


@pytest.fixture
def finished(features, labels, tmp_path):
    """A function that puts a finished run of a method into the folder, without fitting."""

    def put(method, name="m", **conditions):
        folder = tmp_path / "runs"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ancestryvi.evaluate.benchmark.fit_in_process", pretend)
            run_benchmark(
                features, labels, {name: method}, seeds=1, folder=folder, conditions=conditions
            )
        return folder

    def pretend(estimator, features_file, **limits):
        from ancestryvi.evaluate.isolated import Fit

        n = len(features)
        return Fit(seconds=1.0, peak_mb=1.0, embedding=np.eye(n, 2), labels=np.zeros(n, np.int64))

    return put


@pytest.mark.parametrize("change", ["features", "samples", "labels", "parameters", "clusters"])
def test_runs_of_something_else_are_refused(toys, features, labels, finished, change):
    folder = finished(toys.Halves(), clusters=2)
    says = {"samples": "features", "parameters": "n_clusters"}.get(change, change)
    method, conditions = toys.Halves(), {"clusters": 2}
    if change == "features":
        features = features + 1e-9
    elif change == "samples":
        features = features.set_axis([f"T{i}" for i in range(90)])
    elif change == "labels":
        labels = np.where(np.arange(90) == 3, "GBR", labels)
    elif change == "parameters":
        method = toys.Halves(n_clusters=5)
    else:
        conditions = {"clusters": 3}
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match=rf"m-0\.json.*not the same: {says}\).*force"):
        run_benchmark(
            features, labels, {"m": method}, seeds=1, folder=folder, conditions=conditions
        )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_method_not_asked_for_must_have_the_same_data_too(toys, features, labels, finished):
    folder = finished(toys.Halves(), "earlier")
    with pytest.raises(OutputError, match="earlier-0"):
        run_benchmark(features * 2, labels, {"m": toys.Halves()}, seeds=1, folder=folder)


def test_force_runs_again_what_differs_and_keeps_the_rest(toys, features, labels, finished):
    finished(toys.Halves(), "same")
    folder = finished(toys.Halves(n_clusters=9), "other")
    both = {"same": toys.Halves(), "other": toys.Halves()}
    runs = run_benchmark(features, labels, both, seeds=1, folder=folder, force=True)
    assert [run.scores["seconds"] == 1.0 for run in runs] == [True, False]


def test_a_damaged_file_is_named(toys, features, labels, finished):
    folder = finished(toys.Halves())
    (folder / "m-0.json").write_text('{"method": "m"')
    with pytest.raises(OutputError, match=r"m-0\.json is no run"):
        run_benchmark(features, labels, {"m": toys.Halves()}, seeds=1, folder=folder)


def test_a_run_survives_its_file(tmp_path):
    embedding = np.array([[1.5, -2.25], [np.nan, np.nan]])
    run = Run(
        method="my/own: method", seed=3, scores={"nmi": 0.1, "log_density": float("nan")},
        embedding=embedding, labels=np.array([0, -1]), parameters={"a": "1"}, machine="x",
    )  # fmt: skip
    folder = RunFolder(tmp_path)
    folder.write(run)
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path]
    (found,) = folder.read()
    assert_array_equal(found.embedding, embedding)
    assert_array_equal(found.labels, run.labels)
    assert found.scores["nmi"] == 0.1
    assert np.isnan(found.scores["log_density"])
    assert (found.method, found.seed, found.parameters) == ("my/own: method", 3, {"a": "1"})
    json.loads(folder.file_of(run).read_text(), parse_constant=pytest.fail)  # no NaN: it is JSON


SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in background jobs
import numpy as np, pandas as pd, toy_methods as toys
from ancestryvi.evaluate import run_benchmark
X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))
methods = {"quick": toys.Halves(notes="notes"), "slow": toys.Hangs(notes="notes")}
run_benchmark(X, np.repeat(["x", "y"], 30), methods, seeds=1, folder="runs", progress=print)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_stopping_ends_the_processes_and_keeps_what_is_done(toys, tmp_path, sign):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    notes = tmp_path / "notes"
    wait_until(lambda: notes.exists() and notes.read_text().count("\n") == 2, process)
    (slow,) = [int(line.split()[-1]) for line in notes.read_text().splitlines() if "Hangs" in line]
    assert is_running(slow)
    process.send_signal(sign)
    assert process.wait(120) != 0
    wait_until(lambda: not is_running(slow))
    assert keys(RunFolder(tmp_path / "runs").read()) == [("quick", 0)]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["quick-0.json"]


def wait_until(condition, process=None):
    for _ in range(600):
        if condition():
            return
        assert process is None or process.poll() is None, "it ended too early"
        time.sleep(0.05)
    pytest.fail("waited for 30 s")


def is_running(pid):
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip() not in ("", "Z", "Zs", "Zsl")


# ---- what is refused ---------------------------------------------------------------------------


def test_labels_and_features_must_fit(toys, features, labels, tmp_path):
    def run(X=features, y=labels, **methods):
        return run_benchmark(X, y, methods or {"m": toys.Halves()}, folder=tmp_path / "runs")

    with pytest.raises(SampleError, match="index"):
        run(y=pd.Series(labels))
    with pytest.raises(SampleError, match="90 samples"):
        run(y=labels[:-1])
    with pytest.raises(LabelError, match="1 distinct"):
        run(y=["GBR"] * 80 + [None] * 10)
    holes = features.copy()
    holes.iloc[17, 1] = np.nan
    with pytest.raises(InputFormatError, match="'S17'"):
        run(X=holes)
    homeless = type("Homeless", (toys.Halves,), {"__module__": "__main__"})
    with pytest.raises(ValueError, match="module"):
        run(m=homeless())
    assert list(tmp_path.iterdir()) == []


def test_the_seed_of_a_pipeline_is_that_of_its_steps(toys, features, labels, tmp_path):
    pipeline = Pipeline([("toy", toys.Halves(notes=str(tmp_path / "notes")))])
    run_benchmark(features, labels, {"m": pipeline}, seeds=[6], folder=tmp_path / "runs")
    assert (tmp_path / "notes").read_text().startswith("Halves 6 ")


# ---- tables ------------------------------------------------------------------------------------


def made(method, *values, error=None):
    return [
        Run(
            method=method, seed=i, scores={} if error else {"nmi": v, "seconds": 2 * v}, error=error
        )
        for i, v in enumerate(values)
    ]


def test_intervals_are_those_by_hand():
    row = summary_table(made("m", 0.7, 0.8, 0.9)).iloc[0]
    half = 4.302652729911275 * 0.1 / 3**0.5  # 97.5 % point of t with 2 degrees of freedom
    assert row["nmi_mean"] == pytest.approx(0.8)
    assert row["nmi_half_width"] == pytest.approx(half, rel=1e-6)
    assert row["seconds_half_width"] == pytest.approx(2 * half, rel=1e-6)
    assert np.isnan(row["ari_mean"])


def test_the_best_method_is_first_and_one_that_never_worked_last():
    runs = [*made("b", 0.5), *made("broken", 0, 0, error="x"), *made("a", 0.9), *made("c", 0.7)]
    table = summary_table(runs)
    assert list(table["method"]) == ["a", "c", "b", "broken"]
    assert table["why"].iloc[-1] == "x (seeds 0, 1)"


def test_failed_seeds_do_not_enter_the_mean():
    runs = [*made("m", 0.4, 0.6), Run(method="m", seed=2, error="x")]
    row = summary_table(runs).iloc[0]
    assert (row["nmi_mean"], row["n_runs"], row["n_failed"]) == (0.5, 2, 1)


def test_the_median_run():
    assert median_run(made("m", 0.1, 0.9, 0.6)).seed == 2
    assert median_run(made("m", 0.1, 0.9)).seed == 0
    assert median_run(made("m", 0.1, error="x")) is None


# ---- the ceiling -------------------------------------------------------------------------------


def test_the_ceiling_is_of_samples_that_the_discriminant_did_not_see():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 45))  # enough features to learn any labels by heart
    y = np.repeat(["a", "b"], 30)
    assert supervised_ceiling(X, y)["nmi"] < 0.2
    X[30:, 0] += 50
    assert supervised_ceiling(X, y)["nmi"] == 1.0


def test_the_ceiling_copes_with_small_and_missing_labels(features, labels):
    y = labels.copy()
    y[:3] = "tiny"
    y[3] = "alone"
    scores = supervised_ceiling(features, y)
    assert scores["n_labelled"] == 88
    assert 0.6 < scores["nmi"] < 1  # the sole sample of a label cannot be told
    assert supervised_ceiling(features, ["a"] * 90) is None
    assert supervised_ceiling(features.iloc[:3], ["a", "b", "c"]) is None
