"""The visitors of sessions: sessions of the same visitor are not independent of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.overlap import NoVerdict

LEAST_VISITORS = 40
"""Fewest visitors for a verdict."""


@dataclass(frozen=True)
class Visitors:
    """The visitors of E sessions.

    Attributes:
        number: (E,) number of each session's visitor, from 0; None where visitors are unknown, and
            each session counts as another visitor's.
    """

    number: NDArray[np.intp] | None

    @classmethod
    def of(cls, visitor: NDArray[np.int64] | None) -> Self:
        """Number the visitors (E,) of sessions.

        Raises:
            InputError: All sessions are of one visitor, so nothing is known about others.
        """
        if visitor is None:
            return cls(None)
        names, number = np.unique(visitor, return_inverse=True)
        if len(names) < 2:
            raise InputError(
                f"visitor: expected at least 2 visitors as evidence, got {len(names)}; log more"
            )
        return cls(number)

    @property
    def count(self) -> int | None:
        """Number of visitors; None where they are unknown."""
        return None if self.number is None else int(self.number.max()) + 1

    def sums(self, sessions: Contributions) -> Contributions:
        """Contributions of visitors where these are known, otherwise of sessions."""
        return sessions if self.number is None else sessions.of_visitors(self.number)

    def totals(self, sessions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums by visitor of the sessions' values (E,); the values if visitors are unknown."""
        if self.number is None:
            return sessions
        return np.asarray(np.bincount(self.number, sessions), np.float64)

    def contributions(self, sessions: Mapping[str, Contributions]) -> Mapping[str, Contributions]:
        """Contributions by estimator, computed when they are looked up."""
        return sessions if self.number is None else _Summed(sessions, self)

    def refusal(self) -> NoVerdict | None:
        """The refusal if there are too few visitors; None if there are enough."""
        if self.count is None or self.count >= LEAST_VISITORS:
            return None
        return NoVerdict(
            f"the sessions come from {self.count} visitors, but at least {LEAST_VISITORS} are "
            "needed",
            "log more visitors",
        )


@dataclass(frozen=True)
class _Summed(Mapping[str, Contributions]):
    sessions: Mapping[str, Contributions]
    visitors: Visitors

    def __getitem__(self, estimator: str) -> Contributions:
        return self.visitors.sums(self.sessions[estimator])

    def __iter__(self) -> Iterator[str]:
        return iter(self.sessions)

    def __len__(self) -> int:
        return len(self.sessions)
