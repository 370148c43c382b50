"""Whether rewards depend on items that visitors saw on earlier visits.

A decision counts for itself, as if its visitor came for the first time. Where one has seen enough
of an item, or has bought it, a policy that shows it on every visit earns less than logs say in
which it stood among others. Earlier clicks do not tell: who likes an item clicks it again.
Earlier slates do, as far as chance decided that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.overlap import NoVerdict
from slateflow.trajectories import Trajectories

Array = NDArray[np.float64]

VISITS_BEYOND_CHANCE = 3.0
"""Standard errors by which what was seen has to go with what is earned."""

NO_SQUARE = 1e-10
"""Share of a square that is none."""

MOST_SHOWN, LEAST_VISITORS = 200_000, 500
"""Shown items that are asked, at most, and visitors, if there are so many."""


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
        """The visits of logs; None where these tell no visitors, or have no catalogue."""
        if rows.visitor is None or rows.catalogue is None:
            return None
        return cls(rows.visitor, rows.episode, rows.shown_items(), rows.propensity)

    @classmethod
    def joined(cls, several: Sequence[Self]) -> Self:
        """Visits of several parts."""
        columns = ("visitor", "order", "item", "propensity")
        return cls(*(np.concatenate([getattr(one, name) for one in several]) for name in columns))

    def refusal(self, surprise: Array, expected: Array) -> NoVerdict | None:
        """Why decisions cannot count for themselves; None where they can.

        Args:
            surprise: (R, K) rewards of the shown items, less those that a model expected.
            expected: (R, K) expected rewards; the effect of earlier visits is taken to rise with
                them.
        """
        if abs(self._statistic(surprise, expected)) <= VISITS_BEYOND_CHANCE:
            return None
        return NoVerdict(
            "what visitors do depends on what they saw on earlier visits",
            "compare in an experiment in which a visitor stays with one policy",
        )

    def _statistic(self, surprise: Array, expected: Array) -> float:
        """Score by which surprises go with what was seen, in its standard errors.

        The variance is that of independent visitors (White 1982, "Maximum Likelihood Estimation of
        Misspecified Models", equation 4.4).
        """
        some, visitor, visits = self._asked()
        places = self.item.shape[1]
        order, item = self.order[some], self.item[some].ravel()
        likely, left = expected[some].ravel(), surprise[some].ravel()
        visits, chance = np.repeat(visits, places), np.repeat(self.propensity[some], places)
        visitor, order = np.repeat(visitor, places), np.repeat(order, places)
        seen = np.log1p(_before(order, visitor, item))
        # As often as chance has it, where propensities are those of the earlier visits
        by_chance = visits * chance
        known = [np.ones(len(seen)), np.log1p(visits), chance]
        known += [by_chance, np.log1p(by_chance), 1 - (1 - chance) ** visits]
        plain = np.column_stack([*known, *(one * likely for one in known)])
        both = np.column_stack([seen * likely, left])
        rest = both - plain @ np.linalg.lstsq(plain, both, rcond=None)[0]
        if (np.square(rest).sum(axis=0) <= NO_SQUARE * np.square(both).sum(axis=0)).any():
            return 0.0  # nothing was seen but what is known anyway
        scores = np.bincount(visitor, rest.prod(axis=1))
        return float(scores.sum() / np.sqrt(np.square(scores).sum()))

    def _asked(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
        """(S,) rows that are asked, their visitors, and the earlier visits of these.

        Of many visitors some are asked; of few who come very often their first visits.
        """
        number = np.unique(self.visitor, return_inverse=True)[1]
        most, visitors = MOST_SHOWN // self.item.shape[1], int(number.max()) + 1
        every = min(-(-len(number) // most), max(visitors // LEAST_VISITORS, 1))
        some = np.flatnonzero(number % every == 0)
        visitor = number[some] // every
        visits = _before(self.order[some], visitor)
        if len(some) > most:
            first = visits < most // (int(visitor.max()) + 1)
            some, visitor, visits = some[first], visitor[first], visits[first]
        return some, visitor, visits


def _before(order: NDArray[np.int64], *keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """(R,) how many rows with the same keys come before each."""
    rows = np.lexsort((order, *keys))
    first = np.ones(len(rows), np.bool_)
    first[1:] = np.any([key[rows][1:] != key[rows][:-1] for key in keys], axis=0)
    starts = np.flatnonzero(first)
    found = np.empty(len(rows), np.int64)
    found[rows] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return found
