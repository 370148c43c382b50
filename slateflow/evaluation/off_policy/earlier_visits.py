"""Whether what visitors do depends on what they saw on earlier visits.

A decision counts for itself, as if its visitor came for the first time. Where one has seen enough
of an item, or has bought it, a policy that shows it on every visit earns less than logs say in
which it stood among others. What was clicked before does not tell: who likes an item clicks it
again. What was shown before does, as far as chance decided that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from slateflow.evaluation.off_policy.overlap import NoVerdict
from slateflow.trajectories import Trajectories

Array = NDArray[np.float64]

CHANCE = 1e-3
"""How often decisions that do count for themselves are refused."""

ROUNDING = 1e-10
"""Share of a square, or of a variance, that is none."""

MOST_SHOWN = 200_000
"""Shown items that are asked."""


@dataclass(frozen=True)
class Visits:
    """Logged decisions, R of them with K shown items, by their visitors.

    Attributes:
        visitor: (R,) who came.
        order: (R,) numbers that rise with the visits.
        item: (R, K) numbers of what was shown.
        propensity: (R,) probabilities of that.
    """

    visitor: NDArray[np.int64]
    order: NDArray[np.int64]
    item: NDArray[np.int32]
    propensity: Array

    @classmethod
    def of(cls, rows: Trajectories) -> Self | None:
        """Of logs that tell their visitors; None of others."""
        if rows.visitor is None or rows.catalogue is None:
            return None
        item = np.take_along_axis(rows.candidates, rows.slate, axis=1)
        return cls(rows.visitor, rows.episode, item, rows.propensity)

    @classmethod
    def joined(cls, several: Sequence[Self]) -> Self:
        """Those of several parts."""
        columns = ("visitor", "order", "item", "propensity")
        return cls(*(np.concatenate([getattr(one, name) for one in several]) for name in columns))

    def refusal(self, surprise: Array) -> NoVerdict | None:
        """Why decisions cannot count for themselves; None where they can.

        Args:
            surprise: (R, K) what was shown earned, less what a model expected.
        """
        if not self._matter(surprise):
            return None
        return NoVerdict(
            "what visitors do depends on what they saw on earlier visits",
            "compare in an experiment in which a visitor stays with one policy",
        )

    def _matter(self, surprise: Array) -> bool:
        number = np.unique(self.visitor, return_inverse=True)[1]
        some = number % -(-self.item.size // MOST_SHOWN) == 0
        visitor = np.unique(number[some], return_inverse=True)[1]
        order, item, places = self.order[some], self.item[some], self.item.shape[1]
        visits = _before(order, visitor)
        if not visits.any():
            return False
        of_item, of_order = np.repeat(visitor, places), np.repeat(order, places)
        seen = _before(of_order, of_item, item.ravel())
        visits = np.repeat(visits, places)
        # As often as chance has it, where propensities are those of the earlier visits
        chance = np.repeat(self.propensity[some], places)
        expected = [visits * chance, 1 - (1 - chance) ** visits]
        plain = np.column_stack([np.ones(len(seen)), np.log1p(visits), chance, *expected])
        ours = np.column_stack([seen, seen > 0]).astype(np.float64)
        return _explain(ours, surprise[some].ravel(), plain, of_item)


def _explain(x: Array, y: Array, known: Array, visitor: NDArray[np.intp]) -> bool:
    """Whether features x (S, P) explain y (S,) beyond what is known (S, Q), by more than chance.

    It is the score test, whose variance is that of independent visitors (S,) (White 1982, "Maximum
    Likelihood Estimation of Misspecified Models", equation 4.4).
    """
    both = np.column_stack([x, y])
    left = both - known @ np.linalg.lstsq(known, both, rcond=None)[0]
    # What is known already has nothing left but rounding
    left *= np.square(left).sum(axis=0) > ROUNDING * np.square(both).sum(axis=0)
    scores = left[:, :-1] * left[:, -1:]
    scores = np.column_stack([np.bincount(visitor, one) for one in scores.T])
    total, variance = scores.sum(axis=0), scores.T @ scores
    statistic = total @ np.linalg.pinv(variance, rcond=ROUNDING, hermitian=True) @ total
    return bool(statistic > special.chdtri(x.shape[1], CHANCE))


def _before(order: NDArray[np.int64], *keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """(R,) how many rows with the same keys come before each."""
    rows = np.lexsort((order, *keys))
    first = np.ones(len(rows), np.bool_)
    first[1:] = np.any([key[rows][1:] != key[rows][:-1] for key in keys], axis=0)
    starts = np.flatnonzero(first)
    found = np.empty(len(rows), np.int64)
    found[rows] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return found
