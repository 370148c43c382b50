"""A test of whether rewards depend on items that visitors saw on earlier visits.

Estimates treat each decision as if its visitor came for the first time. Where visitors have seen
enough of an item, or have bought it, a policy that shows it on every visit earns less than
estimated from logs in which it alternated with others. Earlier clicks are not evidence, as visitors
who like an item click it again. Earlier slates are, as far as chance decided them.

The propensities of the earlier visits show what chance decided. For single items, each earlier
visit counts 1 / propensity if it showed the item, less 1: an inverse propensity weight (Horvitz and
Thompson 1952, "A Generalization of Sampling Without Replacement From a Finite Universe"). Its mean
is 0 whatever the policy knew at the time, so these terms are martingale differences. Today's
propensity would not do: where the policy follows columns that change between visits, such as prices
or the last purchase, earlier choices reveal tastes. The mean is 0 only where the item could be
shown, so only visits count that had it on offer and left the choice to chance.

Where propensities do not change between visits, the number of times that an item was seen is
compared with its expectation by today's propensity, which has slightly more power.

The propensities of slates do not reveal how likely each item was. Where the user's columns change
between visits, or what is on offer, regressions estimate it (`slate_inclusion`): each earlier visit
counts 1 if its slate included the item, less this probability.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.overlap import NoVerdict
from slateflow.evaluation.off_policy.slate_inclusion import (
    common_items,
    inclusion,
    items_on_offer,
)
from slateflow.evaluation.off_policy.visit_order import count_before, sum_before
from slateflow.shared_rows import at_rows
from slateflow.trajectories import Trajectories

Array = NDArray[np.float64]

VISITS_BEYOND_CHANCE = 3.0
"""Standard errors by which rewards have to be associated with what was seen before."""

NO_SQUARE = 1e-10
"""Share of a sum of squares below which it counts as 0."""

SAME_CHANCE = 1e-6
"""Relative difference of propensities that is rounding."""

MOST_SHOWN, LEAST_VISITORS = 200_000, 500
"""Most shown items in the test, and fewest visitors, if there are that many."""


@dataclass(frozen=True)
class Visits:
    """Logged decisions, R of them with K shown items, by their visitors.

    Attributes:
        visitor: (R,) hash of the visitor.
        order: (R,) numbers that rise with the visits.
        item: (R, K) numbers of the shown items.
        propensity: (R,) probabilities of the shown items.
        columns: (R, U) columns of the user that policies for slates may follow; None where these
            are not known.
    """

    visitor: NDArray[np.int64]
    order: NDArray[np.int64]
    item: NDArray[np.int32]
    propensity: Array
    columns: NDArray[np.floating] | None = None

    @classmethod
    def of(cls, rows: Trajectories) -> Self | None:
        """The visits of logs; None where logs have no visitors, or no catalogue."""
        if rows.visitor is None or rows.catalogue is None:
            return None
        item = rows.shown_items()
        columns = rows.user if item.shape[1] > 1 else None
        return cls(rows.visitor, rows.episode, item, rows.propensity, columns)

    @classmethod
    def joined(cls, several: Sequence[Self]) -> Self:
        """The visits of several parts, one after the other."""
        names = ("visitor", "order", "item", "propensity")
        return cls(*(np.concatenate([getattr(one, name) for one in several]) for name in names))

    def refusal(
        self,
        surprise: Array,
        expected: Array,
        offered: Iterable[NDArray[np.integer]] | None = None,
    ) -> NoVerdict | None:
        """The refusal if decisions are not independent of earlier visits; otherwise None.

        Args:
            surprise: (R, K) rewards of the shown items, less a model's expected rewards.
            expected: (R, K) expected rewards; the effect of earlier visits is assumed to rise with
                these.
            offered: Blocks (B, N) of the items on offer, −1 after a row's last; R rows in all. None
                where all rows offer the same.
        """
        if abs(self._statistic(surprise, expected, offered)) <= VISITS_BEYOND_CHANCE:
            return None
        return NoVerdict(
            "what visitors do depends on what they saw on earlier visits",
            "compare the policies in an experiment in which each visitor stays with one",
        )

    def _statistic(
        self,
        surprise: Array,
        expected: Array,
        offered: Iterable[NDArray[np.integer]] | None,
    ) -> float:
        """Score statistic of surprises against what was seen before, in standard errors.

        The variance is that of independent visitors (White 1982, "Maximum Likelihood Estimation of
        Misspecified Models", equation 4.4).
        """
        some, visitor, visits = self._asked()
        places = self.item.shape[1]
        likely, left = expected[some].ravel(), surprise[some].ravel()
        if places > 1 and self._slates_change(some, visitor, offered):
            of_row, before = self._included_before(some, visitor, offered)
            seen, times, chance, by_chance = before.T
            likely, left = likely[of_row], left[of_row]
        else:
            of_row = np.arange(len(likely))
            chance = np.repeat(self.propensity[some], places)
            if places > 1 or (offered is None and self._chances_stay(some, visitor)):
                times = np.repeat(visits.astype(np.float64), places)
                seen = self._seen(some, visitor)
            else:
                times = self._could_be_shown(some, visitor, offered)
                seen = self._seen_beyond_chance(some, visitor, times)
            by_chance = times * chance  # as often as today's propensity would have shown the item
        visitor = np.repeat(visitor, places)[of_row]
        known = [np.ones(len(seen)), np.log1p(times), chance, by_chance, np.log1p(by_chance)]
        known += [by_chance / (1 + by_chance), 1 - (1 - chance) ** times]
        plain = np.column_stack([*known, *(one * likely for one in known)])
        both = np.column_stack([seen * likely, left])
        rest = both - plain @ np.linalg.lstsq(plain, both, rcond=None)[0]
        if (np.square(rest).sum(axis=0) <= NO_SQUARE * np.square(both).sum(axis=0)).any():
            return 0.0  # what was seen before follows from the expectation
        scores = np.bincount(visitor, rest.prod(axis=1))
        return float(scores.sum() / np.sqrt(np.square(scores).sum()))

    def _chances_stay(self, some: NDArray[np.intp], visitor: NDArray[np.intp]) -> bool:
        """True if items have the same propensity whenever a visitor (S,) sees them again."""
        chance, item = self.propensity[some], self.item[some, 0]
        rows = np.lexsort((item, visitor))
        again = (np.diff(item[rows]) == 0) & (np.diff(visitor[rows]) == 0)
        chance = chance[rows]
        return bool(np.isclose(chance[1:], chance[:-1], SAME_CHANCE, 0)[again].all())

    def _slates_change(
        self,
        some: NDArray[np.intp],
        visitor: NDArray[np.intp],
        offered: Iterable[NDArray[np.integer]] | None,
    ) -> bool:
        """True if what policies for slates follow changes between the visits of a visitor (S,)."""
        if self.columns is None or offered is not None:
            return self.columns is not None
        rows = np.argsort(visitor, kind="stable")
        known = self.columns[some][rows]
        return bool((known[1:] != known[:-1])[np.diff(visitor[rows]) == 0].any())

    def _included_before(
        self,
        some: NDArray[np.intp],
        visitor: NDArray[np.intp],
        offered: Iterable[NDArray[np.integer]] | None,
    ) -> tuple[NDArray[np.intp], Array]:
        """Shown items (A,) among S·K, and figures (A, 4) of the earlier visits.

        The figures are: how often slates included the item beyond expectation, on approximately a
        logarithmic scale; on how many visits they could have included it; the probability that
        today's slate includes it; and the sum of these probabilities on earlier visits.
        """
        assert self.columns is not None
        item, order = self.item[some], self.order[some]
        items = common_items(item)
        at = np.minimum(np.searchsorted(items, item), len(items) - 1)
        row, place = np.nonzero(items[at] == item)
        included = np.zeros((len(some), len(items)), np.bool_)
        included[row, at[row, place]] = True
        on_offer = items_on_offer(offered, some, items) | included
        likely = inclusion(included, on_offer, self.columns[some].astype(np.float64))
        drawn = self._drawn(some)[:, None]
        beyond, times, sums = (
            sum_before(one * drawn, order, visitor)[row, at[row, place]]
            for one in (included - likely, on_offer, likely)
        )
        figures = [beyond / (1 + sums), times, likely[row, at[row, place]], sums]
        return row * item.shape[1] + place, np.column_stack(figures)

    def _seen(self, some: NDArray[np.intp], visitor: NDArray[np.intp]) -> Array:
        """(S·K,) logarithms of how often the items of some rows were seen before."""
        places = self.item.shape[1]
        order, whose = np.repeat(self.order[some], places), np.repeat(visitor, places)
        return np.asarray(np.log1p(count_before(order, whose, self.item[some].ravel())))

    def _seen_beyond_chance(
        self, some: NDArray[np.intp], visitor: NDArray[np.intp], times: Array
    ) -> Array:
        """(S,) inverse propensity weights of earlier visits with the item, less their mean.

        The factor p / (1 + times × p), with today's propensity p, makes them approximately the
        logarithm of how often the item was seen, less its mean, where propensities hardly change.

        Args:
            some: (S,) rows.
            visitor: (S,) their visitors.
            times: (S,) numbers of earlier visits on which the item could be shown.
        """
        chance, weight = self.propensity[some], self._drawn(some)
        # Events rarer than once in these rows count as if they happened once: sums remain exact
        weight /= np.maximum(chance, 1 / len(some))
        found = sum_before(weight, self.order[some], visitor, self.item[some, 0])
        return np.asarray((found - times) * chance / (1 + times * chance))

    def _could_be_shown(
        self,
        some: NDArray[np.intp],
        visitor: NDArray[np.intp],
        offered: Iterable[NDArray[np.integer]] | None,
    ) -> Array:
        """(S,) numbers of earlier visits on which the item of a row could be shown.

        Args:
            some: (S,) rows.
            visitor: (S,) their visitors.
            offered: See `refusal`.
        """
        drawn, order = self._drawn(some), self.order[some]
        if offered is None:
            return sum_before(drawn, order, visitor)
        items = int(self.item.max()) + 1
        pairs, pair = np.unique(visitor * items + self.item[some, 0], return_inverse=True)
        row, offer = _offers(offered, _positions(some, len(self.order)), visitor, items, pairs)
        before = sum_before(drawn[row], order[row], offer)
        found, own = np.zeros(len(some)), offer == pair[row]
        found[row[own]] = before[own]
        return found

    def _drawn(self, some: NDArray[np.intp]) -> Array:
        """(S,) 1 for rows in which chance decided what to show, and 0 for others."""
        return (self.propensity[some] < 1).astype(np.float64)

    def _asked(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
        """(S,) rows in the test, their visitors, and the numbers of earlier visits.

        Of many visitors only some are used; of few frequent visitors only the first visits.
        """
        number = np.unique(self.visitor, return_inverse=True)[1]
        most, visitors = MOST_SHOWN // self.item.shape[1], int(number.max()) + 1
        every = min(-(-len(number) // most), max(visitors // LEAST_VISITORS, 1))
        some = np.flatnonzero(number % every == 0)
        visitor = number[some] // every
        visits = count_before(self.order[some], visitor)
        if len(some) > most:
            first = visits < most // (int(visitor.max()) + 1)
            some, visitor, visits = some[first], visitor[first], visits[first]
        return some, visitor, visits


def all_offered(rows: Trajectories) -> bool:
    """True if all rows offer the whole catalogue."""
    return rows.catalogue is not None and bool((rows.offered == len(rows.catalogue)).all())


def _positions(some: NDArray[np.intp], rows: int) -> NDArray[np.intp]:
    """(R,) position of each row among some rows (S,); −1 for others."""
    found = np.full(rows, -1)
    found[some] = np.arange(len(some))
    return found


def _offers(
    offered: Iterable[NDArray[np.integer]],
    place: NDArray[np.intp],
    visitor: NDArray[np.intp],
    items: int,
    pairs: NDArray[np.integer],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows (O,) among S, and the pairs (O,) of visitor and item that they offered.

    Args:
        offered: Blocks (B, N) of the items on offer.
        place: (R,) positions of the rows among the S; −1 for others.
        visitor: (S,) visitors.
        items: More than the largest number of a shown item.
        pairs: (P,) visitor × items + item, sorted.
    """
    rows, found, start = [], [], 0
    for block in offered:
        own = place[start : start + len(block)]
        start += len(block)
        on_offer, own = at_rows(block, own >= 0), own[own >= 0]
        key = visitor[own][:, None] * items + on_offer
        at = np.minimum(np.searchsorted(pairs, key), len(pairs) - 1)
        hit = (pairs[at] == key) & (on_offer >= 0) & (on_offer < items)
        rows.append(own[np.nonzero(hit)[0]])
        found.append(at[hit])
    once = np.unique(np.concatenate(rows) * len(pairs) + np.concatenate(found))
    return once // len(pairs), once % len(pairs)
