"""The overlap of logs with a target policy's choices, and the gate before a verdict.

An interval measures how much an estimate would vary over logs like these. It does not reveal that
the logs never show what the policy shows, that propensities are wrong or belong to other rows, or
that one session decides. In these cases the answer is "no verdict", whatever the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from slateflow.evaluation.off_policy.contributions import Contributions, gamma_limits
from slateflow.gate_limits import LEAST_EVENTS, MOST_APART, MOST_DEVIATIONS
from slateflow.shared_rows import distinct
from slateflow.user_models.additive import Additive

Array = NDArray[np.float64]

MOST_UNSEEN = 0.1
"""Largest share of a policy's choices that may be hardly shown in the logs."""

LEAST_EFFECTIVE = 10.0
"""Fewest effective rewards on which an estimate may rest."""

MOST_OF_ONE = 0.2
"""Largest share of an estimate that a single session may carry."""

MOST_OF_ONE_EVENT = 1 / 3
"""The same limit where rewards are rare and of about one size."""

MOST_SKEWED = 0.7
"""Largest skewness of an estimate. Transformed intervals allow for known skewness; with a lower
limit logs that lack large rewards would pass, and logs that have them would not."""

LEAST_STEPS = 0.05
"""Smallest effective sample, as a share of the logged steps, where weights are learnt: below it
they come from the edge of the logged choices."""

VERDICT_SESSIONS = 100
"""Fewest sessions from which weights can be learnt."""

VERDICT_ROWS_PER_FEATURE = 90
"""Logged steps per feature of values and weights for a verdict on sessions. In interest evolution
intervals from 52 contained the truth in 86% of the logs, from 104 in 95%."""

WEIGHT_EDGES = tuple(quarter / 4 for quarter in range(-8, 17))
"""Edges of the histogram of weights, as exponents of ten: from 0.01 to 10,000 in quarter steps."""

GROUPS, MOST_CELLS = 500, 10_000_000
"""Most groups of visitors in the test of whether each row was drawn independently, and most cells
in its table of groups and items."""

ONE_DRAW = "name `visitor` if one draw decides for all visits of one"
"""Advice where weights are impossible: a single draw that decided many rows can also be the
cause."""

OFFERS_AND_DRAWS = f"name `candidates` if items came later or were not offered, and {ONE_DRAW}"
"""Advice where something was never shown that a policy would show."""

ITEMS_AND_DRAWS = f"log every item with a probability above 0, {OFFERS_AND_DRAWS}"
"""Advice where an item has impossible weights."""

IMPOSSIBLE = float(special.ndtr(-MOST_DEVIATIONS))
"""Probability below which a mean weight cannot be an accident."""


def effective_size(weight: Array) -> float:
    """(Σ w)² / Σ w² of weights (T,) (Kish 1965); 0 if all are 0.

    Example:
        >>> effective_size(np.array([2.0, 2.0, 0.0])), effective_size(np.zeros(3))
        (2.0, 0.0)
    """
    squares = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


@dataclass(frozen=True)
class NoVerdict:
    """The reason for which logs cannot evaluate a policy, and advice."""

    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.advice}"


def possible_sums(
    total: Array, variance: Array, largest: Array, tables: int = 1
) -> tuple[Array, Array]:
    """Limits within which the expected sums of weights lie.

    The variance is that of the observed rows, and ignores choices that the logs show too seldom to
    contain them. So the upper limits allow for one more row with the largest possible weight, as
    Fay and Feuer (1997) do. With several tables the limits are wider.
    """
    return gamma_limits(total, variance, largest, IMPOSSIBLE / tables)


@dataclass(frozen=True)
class ItemBalance(Additive):
    """Weights against probabilities, item by item.

    Where propensities are right, the weights of the rows that show an item add up to the target's
    probabilities of showing it, up to chance.

    Attributes:
        rows: Number of rows.
        weights: (M,) sums of the weights of the rows that show an item.
        expected: (M,) sums of the target's probabilities.
        squares: (M,) sums of the squared weights, which are the variances of weighted counts.
        likeliest: (M,) largest of the target's probabilities.
        rarest: (M,) largest factor, 1 / propensity, of the rows that show an item; 0 without any.
        apart: (G, M) excess of weights over probabilities in each group of visitors; G is 0 where
            visitors are unknown.
        square: Sum of the squares of that excess if each row were a group.
    """

    rows: int
    weights: Array
    expected: Array
    squares: Array
    likeliest: Array
    rarest: Array
    apart: Array
    square: float

    @classmethod
    def none(cls, items: int, visitors: int | None = None) -> ItemBalance:
        """The balance of no rows, for this number of items and visitors."""
        groups = 0 if visitors is None else min(visitors, GROUPS, 1 + MOST_CELLS // items)
        zeros = np.zeros(items)
        return cls(0, zeros, zeros, zeros, zeros, zeros, np.zeros((groups, items)), 0.0)

    @classmethod
    def of(
        cls,
        offered: NDArray[Any],
        shown: NDArray[Any],
        probability: Array,
        factor: Array,
        empty: ItemBalance,
        visitor: NDArray[np.intp] | None = None,
    ) -> ItemBalance:
        """The balance of B rows.

        Args:
            offered: (B, N) numbers of the items on offer, −1 where there are fewer.
            shown: (B, 1) position of the shown item.
            probability: (B, N) probabilities with which the target shows each.
            factor: (B,) 1 / propensity, which turns probabilities into weights.
            empty: Balance of no rows.
            visitor: (B,) number of each row's visitor; None where visitors are unknown.
        """
        groups, items = empty.apart.shape
        item = np.take_along_axis(offered, shown, axis=1)[:, 0]
        weight = np.take_along_axis(probability, shown, axis=1)[:, 0] * factor
        offered = np.maximum(distinct(offered), 0)  # padding has no probability

        def summed(numbers: NDArray[Any], values: Array) -> Array:
            return np.asarray(np.bincount(numbers.ravel(), values.ravel(), items), np.float64)

        def largest(numbers: NDArray[Any], values: Array) -> Array:
            found = np.zeros(items)
            np.maximum.at(found, numbers.ravel(), values.ravel())
            return found

        apart, square = empty.apart, 0.0
        if visitor is not None:
            group, cells = visitor % groups * items, groups * items
            apart = np.asarray(np.bincount(group + item, weight, cells), np.float64)
            apart -= np.bincount((group[:, None] + offered).ravel(), probability.ravel(), cells)
            own = np.take_along_axis(probability, shown, axis=1)[:, 0]
            square = float((weight * (weight - 2 * own)).sum() + np.square(probability).sum())
        each, most = probability, probability
        if len(offered) < len(probability):  # all rows have the same items
            each, most = (one(axis=0, keepdims=True) for one in (probability.sum, probability.max))
        return cls(
            len(item),
            summed(item, weight),
            summed(offered, each),
            summed(item, np.square(weight)),
            largest(offered, most),
            largest(item, factor),
            apart.reshape(groups, items),
            square,
        )

    def __add__(self, other: Self) -> Self:
        return replace(
            super().__add__(other),
            likeliest=np.maximum(self.likeliest, other.likeliest),
            rarest=np.maximum(self.rarest, other.rarest),
        )

    @property
    def kept(self) -> float:
        """Number of rows per draw, as in an experiment that draws once per visitor.

        The design effect (Kish 1965, "Survey Sampling", section 5.4): the ratio of the variances by
        visitor to those by row.
        """
        groups = len(self.apart)
        if groups < 2 or self.square <= 0:
            return 1.0
        return max(1.0, float(np.square(self.apart).sum()) / self.square * groups / (groups - 1))

    def worst(
        self, kept: float, tables: int = 1, *, above: bool = False
    ) -> tuple[int, float, float] | None:
        """The item whose weights are impossibly far off, with their mean and its expectation.

        Args:
            kept: Number of rows per draw.
            tables: Number of such tables that are checked.
            above: Whether to look only for weights that are too large.
        """
        if not self.rows:
            return None
        factor = kept * np.where(self.rarest > 0, self.rarest, self.rarest.max())
        low, high = possible_sums(
            self.weights, kept * self.squares, self.likeliest * factor, tables
        )
        off = (
            low - self.expected if above else np.maximum(low - self.expected, self.expected - high)
        )
        item = int(off.argmax())
        if off[item] <= 0:
            return None
        return item, float(self.weights[item] / self.rows), float(self.expected[item] / self.rows)


@dataclass(frozen=True)
class Unbalanced:
    """A group of rows in which weights are impossibly far from probabilities.

    Attributes:
        where: Description of the rows: an item, some users or both.
        mean_weight: Their mean weight.
        expected: The expected mean weight.
        advice: Hints on the cause.
    """

    where: str
    mean_weight: float
    expected: float
    advice: str = f"check that each propensity belongs to its row, {ITEMS_AND_DRAWS}"


@dataclass(frozen=True)
class CheckedWeights:
    """Weights by logged propensities, whose mean is 1 if the propensities are right.

    Attributes:
        by_session: Sums by session, or by visitor where known.
        largest: Largest weight that a row could have by the propensities, whether or not a row has
            it.
    """

    by_session: Contributions
    largest: float

    @property
    def mean(self) -> float:
        """The mean weight."""
        return self.by_session.value

    @property
    def ci(self) -> tuple[float, float]:
        """The 95% interval of the mean weight."""
        reach = 1.96 * self.by_session.sem
        return self.mean - reach, self.mean + reach

    @property
    def possible_mean(self) -> tuple[float, float]:
        """Limits within which the expectation of the mean weight lies."""
        low, high = possible_sums(
            np.array(self.mean),
            np.array(self.by_session.sem**2),
            np.array(self.largest / self.by_session.sessions),
        )
        return float(low), float(high)


@dataclass(frozen=True)
class Overlap:
    """Measures of the overlap of logs with a target policy, from the weights w of its estimate.

    Attributes:
        ess: Effective sample size, (Σ w)² / Σ w² (Kish 1965), of decisions; in sessions these are
            the steps.
        effective_rewards: (Σ |w r|)² / Σ (w r)², the rewards on which the estimate rests.
        mean_weight: Mean of the weights by logged propensities; 1 if these are right and the logs
            show everything. None where it is not checked.
        mean_weight_ci: 95% interval of the mean weight.
        possible_mean: Limits of the expected mean weight.
        largest_weight: The largest w.
        largest_share: Largest share of Σ |w r| that a single session carries.
        unsupported: Share of the target's choices that the logs hardly show.
        unbalanced: Rows where weights are impossibly far from probabilities; None without any.
        weight_counts: Number of weights of 0 or less, then numbers of weights between successive
            `WEIGHT_EDGES`; weights beyond the outer edges count in the outer bins.
        skewness: Skewness of the estimate beyond that for which its interval allows as events.
        events: Whether rewards count as events.
    """

    ess: float
    effective_rewards: float
    mean_weight: float | None
    mean_weight_ci: tuple[float, float] | None
    possible_mean: tuple[float, float] | None
    largest_weight: float
    largest_share: float
    unsupported: float
    unbalanced: Unbalanced | None = None
    weight_counts: tuple[int, ...] = ()
    skewness: float = 0.0
    events: bool = False

    @classmethod
    def of_weights(
        cls,
        weight: Array,
        weighted: Array,
        unsupported: float,
        checked: CheckedWeights | None,
        unbalanced: Unbalanced | None = None,
        skewness: float = 0.0,
        *,
        events: bool = False,
    ) -> Overlap:
        """Compute the measures.

        Args:
            weight: (T,) weights of decisions: rows, or steps of sessions.
            weighted: (E,) weight × reward, summed up by session, or by visitor where known.
            unsupported: Share of the target's choices that the logs hardly show.
            checked: Weights whose mean is checked; None where it would prove nothing.
            unbalanced: See `Overlap`.
            skewness: See `Overlap`.
            events: See `Overlap`.
        """
        size = np.abs(weighted)
        powers = np.log10(weight[weight > 0]).clip(WEIGHT_EDGES[0], WEIGHT_EDGES[-1])
        counts = np.histogram(powers, WEIGHT_EDGES)[0]
        rewarded = float(np.square(size).sum())
        return cls(
            ess=effective_size(weight),
            effective_rewards=float(size.sum()) ** 2 / rewarded if rewarded else 0.0,
            mean_weight=None if checked is None else checked.mean,
            mean_weight_ci=None if checked is None else checked.ci,
            possible_mean=None if checked is None else checked.possible_mean,
            largest_weight=float(weight.max(initial=0.0)),
            largest_share=float(size.max() / size.sum()) if rewarded else 1.0,
            unsupported=unsupported,
            unbalanced=unbalanced,
            weight_counts=(len(weight) - len(powers), *counts.tolist()),
            skewness=skewness,
            events=events,
        )

    def learnt_refusal(self, steps: int, sessions: int) -> NoVerdict | None:
        """The gate for weights of `steps` logged steps, learnt from `sessions` sessions.

        `steps` is 0 where the weights follow from the propensities.
        """
        if sessions < VERDICT_SESSIONS:
            return NoVerdict(
                f"the logs have {sessions} sessions as evidence, but at least {VERDICT_SESSIONS} "
                "are needed",
                "log more sessions",
            )
        if (refusal := self.refusal()) is not None or self.ess >= LEAST_STEPS * steps:
            return refusal
        return NoVerdict(
            f"the estimate rests on {self.ess / steps:.1%} of the logged steps, but at least "
            f"{LEAST_STEPS:.0%} are needed",
            "log sessions in which this policy, or one like it, decides",
        )

    def unseen(self) -> NoVerdict | None:
        """The refusal if the logs hardly show the policy's choices, so its value is a guess."""
        if self.unsupported <= MOST_UNSEEN:
            return None
        return NoVerdict(
            f"{self.unsupported:.0%} of this policy's choices are hardly seen in the logs, but at "
            f"most {MOST_UNSEEN:.0%} may be",
            "log a random policy, too, in at least 5% of the sessions",
        )

    def refusal(self) -> NoVerdict | None:
        """The gate: a refusal with what the logs lack; None if the policy passes."""
        if (refusal := self.unseen() or self._off_one()) is not None:
            return refusal
        if self.unbalanced is not None:
            there = self.unbalanced
            return NoVerdict(
                f"{there.where} has a mean weight of {there.mean_weight:.3g}, but "
                f"{there.expected:.3g} is expected",
                there.advice,
            )
        least, most = (
            (LEAST_EVENTS, MOST_OF_ONE_EVENT) if self.events else (LEAST_EFFECTIVE, MOST_OF_ONE)
        )
        if self.effective_rewards < least:
            return NoVerdict(
                f"the estimate rests on {self.effective_rewards:.1f} effective rewards, but at "
                f"least {least:.0f} are needed",
                "log more sessions, or more of what this policy shows",
            )
        if self.largest_share > most:
            return NoVerdict(
                f"a single session carries {self.largest_share:.0%} of the estimate, but at most "
                f"{most:.0%} is allowed",
                "log more sessions, or explore with larger propensities",
            )
        return self.skewed()

    def _off_one(self) -> NoVerdict | None:
        """The refusal if the mean weight is impossibly far from 1; None if it is not checked."""
        if self.mean_weight is None or self.possible_mean is None:
            return None
        low, high = self.possible_mean
        if abs(self.mean_weight - 1) <= MOST_APART or low <= 1 <= high:
            return None
        return NoVerdict(
            f"the mean weight of this policy is {self.mean_weight:.3g}, but 1 is expected",
            "check that each propensity is the probability of what its row shows, log every "
            f"choice with a probability above 0, {OFFERS_AND_DRAWS}",
        )

    def skewed(self) -> NoVerdict | None:
        """The refusal if the estimate is too skewed."""
        if self.skewness <= MOST_SKEWED:
            return None
        more = math.ceil((self.skewness / MOST_SKEWED) ** 2)  # it falls by the root of the rows
        return NoVerdict(
            f"the estimate rests on few large rewards or weights: its skewness is "
            f"{self.skewness:.2f}, but at most {MOST_SKEWED} is allowed",
            f"log about {more} times as many rows, or explore with larger propensities",
        )
