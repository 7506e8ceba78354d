"""Methods for tests of the benchmark, in a module that another process can import."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator


class Halves(BaseEstimator):
    """Splits at 0 of the first feature; the map is the first two. Notes each fit in a file."""

    def __init__(self, n_clusters=2, random_state=None, notes=None):
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.notes = notes

    def fit(self, X, y=None):
        if self.notes is not None:
            with Path(self.notes).open("a") as file:
                file.write(f"{type(self).__name__} {self.random_state} {os.getpid()}\n")
        values = np.asarray(X)
        self.embedding_ = values[:, :2].copy()
        self.labels_ = (values[:, 0] > 0).astype(int)
        return self


class Partial(Halves):
    """Leaves the first five samples without a place, and has a log density."""

    def fit(self, X, y=None):
        super().fit(X)
        self.embedding_[:5] = np.nan
        self.labels_[:5] = -1
        return self

    def score(self, X, y=None):
        return -float(len(X))


class Raises(Halves):
    """Fails with an error, and works once a file named ``notes`` + ".mended" exists."""

    def fit(self, X, y=None):
        super().fit(X)
        if self.notes is None or not Path(f"{self.notes}.mended").exists():
            raise ValueError("no convergence\nafter 7 steps")
        return self


class Exits(Halves):
    def fit(self, X, y=None):
        print("cannot go on", flush=True)
        os._exit(3)


class Crashes(Halves):
    def fit(self, X, y=None):
        os.kill(os.getpid(), signal.SIGSEGV)


class Hangs(Halves):
    def fit(self, X, y=None):
        super().fit(X)
        time.sleep(600)


class Swells(Halves):
    """Takes memory in steps of 50 MB, and stops at 2 GB for the machine's sake."""

    def fit(self, X, y=None):
        blocks = []
        for _ in range(40):
            blocks.append(np.ones(50 * 2**17))
            time.sleep(0.02)
        return super().fit(X)


class Flat(Halves):
    """A map of one coordinate."""

    def fit(self, X, y=None):
        super().fit(X)
        self.embedding_ = self.embedding_[:, :1]
        return self


class Threads(Halves):
    """A map that tells how many threads its libraries may take, 0 for any number."""

    def fit(self, X, y=None):
        super().fit(X)
        self.embedding_[:] = int(os.environ.get("OMP_NUM_THREADS", 0))
        return self
