"""A test whether rewards depend on items that visitors saw on earlier visits.

Estimates treat each decision as if its visitor came for the first time. Where visitors have seen
enough of an item, or have bought it, a policy that shows it on every visit earns less than
estimated from logs in which it alternated with others. Earlier clicks are not evidence, as visitors
who like an item click it again. Earlier slates are, as far as chance decided them.
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
"""Standard errors by which rewards have to be associated with what was seen before."""

NO_SQUARE = 1e-10
"""Share of a sum of squares below which it counts as 0."""

MOST_SHOWN, LEAST_VISITORS = 200_000, 500
"""Most shown items in the test, and its fewest visitors, if there are that many."""


@dataclass(frozen=True)
class Visits:
    """Logged decisions, R of them with K shown items, by their visitors.

    Attributes:
        visitor: (R,) hash of the visitor.
        order: (R,) numbers that rise with the visits.
        item: (R, K) numbers of the shown items.
        propensity: (R,) probabilities of the shown items.
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
        """The visits of several parts, one after the other."""
        columns = ("visitor", "order", "item", "propensity")
        return cls(*(np.concatenate([getattr(one, name) for one in several]) for name in columns))

    def refusal(self, surprise: Array, expected: Array) -> NoVerdict | None:
        """The refusal if decisions are not independent of earlier visits; otherwise None.

        Args:
            surprise: (R, K) rewards of the shown items, less a model's expected rewards.
            expected: (R, K) expected rewards; the effect of earlier visits is assumed to rise with
                these.
        """
        if abs(self._statistic(surprise, expected)) <= VISITS_BEYOND_CHANCE:
            return None
        return NoVerdict(
            "what visitors do depends on what they saw on earlier visits",
            "compare in an experiment in which a visitor stays with one policy",
        )

    def _statistic(self, surprise: Array, expected: Array) -> float:
        """Score of surprises against what was seen before, in standard errors.

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
        # The number expected by chance, with the propensities of the earlier visits
        by_chance = visits * chance
        known = [np.ones(len(seen)), np.log1p(visits), chance]
        known += [by_chance, np.log1p(by_chance), 1 - (1 - chance) ** visits]
        plain = np.column_stack([*known, *(one * likely for one in known)])
        both = np.column_stack([seen * likely, left])
        rest = both - plain @ np.linalg.lstsq(plain, both, rcond=None)[0]
        if (np.square(rest).sum(axis=0) <= NO_SQUARE * np.square(both).sum(axis=0)).any():
            return 0.0  # what was seen before follows from the expectation
        scores = np.bincount(visitor, rest.prod(axis=1))
        return float(scores.sum() / np.sqrt(np.square(scores).sum()))

    def _asked(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
        """(S,) rows in the test, their visitors, and the numbers of earlier visits.

        Of many visitors some are used; of few who come very often their first visits.
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
    """(R,) number of rows with the same keys before each row."""
    rows = np.lexsort((order, *keys))
    first = np.ones(len(rows), np.bool_)
    first[1:] = np.any([key[rows][1:] != key[rows][:-1] for key in keys], axis=0)
    starts = np.flatnonzero(first)
    found = np.empty(len(rows), np.int64)
    found[rows] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return found
