"""What training recorded: one row per epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass
class History:
    """Means over each epoch of every term that an objective returned.

    Attributes
    ----------
    phases : list of str
        The phase of each epoch.
    epochs : list of dict
        Terms by name, as ``objective/term``, in nats per sample.

    Examples
    --------
    >>> history = History()
    >>> history.append("warm start", {"wake/elbo": -3.0})
    >>> history["wake/elbo"]
    [-3.0]
    """

    phases: list[str] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)

    def append(self, phase: str, terms: Mapping[str, float]) -> None:
        """Add an epoch."""
        self.phases.append(phase)
        self.epochs.append(dict(terms))

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for epoch in self.epochs for name in epoch))

    def __getitem__(self, term: str) -> list[float]:
        """The curve of one term, NaN in epochs whose phase has no such term."""
        if not any(term in epoch for epoch in self.epochs):
            raise KeyError(term)
        return [epoch.get(term, float("nan")) for epoch in self.epochs]

    def to_dict(self) -> dict[str, list]:
        """The record as plain lists, for JSON."""
        return {"phases": self.phases, "epochs": self.epochs}

    @classmethod
    def from_dict(cls, record: Mapping[str, list]) -> History:
        """The inverse of `to_dict`."""
        return cls(list(record["phases"]), list(record["epochs"]))
