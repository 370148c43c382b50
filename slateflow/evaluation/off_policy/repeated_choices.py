"""A test of whether each row's choice was drawn independently.

Estimates treat rows as independent. They are not where a log has duplicate rows, as after retries
and overlapping exports, or where a policy keeps a draw for an hour or for a visitor: propensities
are then right, but intervals far too short. Rows that are equal in everything that a policy can
know are the evidence: one may repeat the choice of the one before only as often as the propensities
imply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.overlap import NoVerdict
from slateflow.shared_rows import at_rows, distinct
from slateflow.trajectories import Trajectories
from slateflow.trajectories.files.hold_out import HELD_OUT
from slateflow.trajectories.hashes import mixed

REPEATS_BEYOND_CHANCE = 5.0
"""Standard errors by which repetitions have to exceed the number that propensities imply."""

REPEATS_THAT_MATTER = 0.05
"""Share of the rows that copies of the row before have to exceed. If one in twenty is a copy, the
variance of a mean is a tenth larger than it appears, and a 95% interval covers 93.8%.
"""


@dataclass(frozen=True)
class RepeatedChoices:
    """The first offers and slates of S sessions, in the order of the log.

    Attributes:
        alike: (S,) hashes of the user's columns and of the candidates.
        shown: (S,) hashes of the slates.
        propensity: (S,) probabilities of the slates.
        visitor: (S,) hashes of the visitors; None where they are unknown.
    """

    alike: NDArray[np.uint64]
    shown: NDArray[np.uint64]
    propensity: NDArray[np.float64]
    visitor: NDArray[np.int64] | None

    @classmethod
    def of(cls, rows: Trajectories, evidence: NDArray[np.bool_] | None = None) -> Self:
        """The choices of logs; none without a catalogue, for then no offers are alike.

        Args:
            rows: Whole sessions.
            evidence: (R,) which of them are evidence; None for all. Of the others a fifth is looked
                at, by users and offers, because a copy of a held-out row is seldom held out.
        """
        if rows.catalogue is None:
            none = np.zeros(0, np.uint64)
            return cls(none, none, none.astype(np.float64), None)
        first = rows.starts
        user = np.ascontiguousarray(rows.user[first], np.float32).view(np.uint32)
        alike = mixed(_in_order(user) + _in_any_order(distinct(at_rows(rows.candidates, first))))
        if evidence is not None:
            looked_at = evidence[first] | (alike % np.uint64(HELD_OUT) == 0)
            first, alike = first[looked_at], alike[looked_at]
        shown = _in_order(rows.shown_items(first))
        visitor = None if rows.visitor is None else rows.visitor[first]
        return cls(alike, shown, rows.propensity[first], visitor)

    @classmethod
    def joined(cls, several: Sequence[Self]) -> Self:
        """The choices of several parts, one after the other."""
        visitors = [one.visitor for one in several if one.visitor is not None]
        return cls(
            np.concatenate([one.alike for one in several]),
            np.concatenate([one.shown for one in several]),
            np.concatenate([one.propensity for one in several]),
            np.concatenate(visitors) if visitors else None,
        )

    def refusal(self) -> NoVerdict | None:
        """The refusal if rows are not independent; otherwise None."""
        total, error = self.excess()
        if total <= REPEATS_BEYOND_CHANCE * error:
            return None
        copied = total / (1 - self._by_chance.mean())  # others repeat the row before by chance
        if copied <= REPEATS_THAT_MATTER * len(self.alike):
            return None
        before, after = self._pairs
        same = float((self.shown[before] == self.shown[after]).mean())
        return NoVerdict(
            f"among rows with the same user's columns and candidates, {same:.0%} repeat the row "
            f"before, but {self._by_chance.mean():.0%} are expected by the propensities",
            "log each decision once, and draw anew for each; or name as `visitor` the column by "
            "which choices are kept, such as a user or a day",
        )

    def excess(self) -> tuple[float, float]:
        """Repetitions in excess of those of independent rows, and the standard error of the excess.

        Of two independent rows of a policy the second repeats the first with probability Σ p²,
        which is the mean of the propensities of either row's slate. If the policy changed between
        them, the probability is less, and the mean of Σ p² of both is more. Pairs of a visitor
        count together.
        """
        before, after = self._pairs
        more = (self.shown[before] == self.shown[after]) - self._by_chance
        if self.visitor is not None:
            whose = np.unique(self.visitor[before], return_inverse=True)[1]
            more = np.bincount(whose, more)
        return float(more.sum()), float(np.sqrt(np.square(more).sum()))

    @cached_property
    def _pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(P,) rows, and (P,) their next equal rows, of other visitors where these are known."""
        order = np.argsort(self.alike, kind="stable")
        pair = self.alike[order][1:] == self.alike[order][:-1]
        if self.visitor is not None:  # visits of one visitor count together
            pair &= self.visitor[order][1:] != self.visitor[order][:-1]
        return order[:-1][pair], order[1:][pair]

    @property
    def _by_chance(self) -> NDArray[np.float64]:
        """(P,) estimated probabilities of a repetition."""
        before, after = self._pairs
        return (self.propensity[before] + self.propensity[after]) / 2


def _in_order(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """(S,) hashes of rows of whole numbers (S, N)."""
    hashed = np.zeros(len(numbers), np.uint64)
    for column in numbers.T:
        hashed = mixed(hashed ^ mixed(column))
    return hashed


def _in_any_order(numbers: NDArray[np.integer]) -> NDArray[np.uint64]:
    """(S,) hashes of rows of whole numbers (S, N), the same in any order, without −1."""
    hashed = np.zeros(len(numbers), np.uint64)
    for column in numbers.T:
        hashed += np.where(column >= 0, mixed(column), np.uint64(0))
    return hashed
