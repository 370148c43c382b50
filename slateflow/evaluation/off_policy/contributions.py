"""Estimates from logs as sums over sessions, and valid intervals for them.

An estimate of a policy's return is the mean of one contribution per session; rows of a session are
not independent, so nothing finer is resampled or counted. Differences of policies are differences
of their contributions on the same sessions. Where logs name visitors, sessions of the same visitor
are not independent either, and nothing finer than a visitor is counted (Cameron and Miller 2015, "A
practitioner's guide to cluster-robust inference", Journal of Human Resources 50, p. 317). A few
visitors may have most of the sessions. Then the standard error rests on these few, and has
correspondingly few degrees of freedom (Satterthwaite 1946, "An Approximate Distribution of
Estimates of Variance Components", Biometrics Bulletin 2, p. 110).

Where most decisions earn little and a few earn much, as with revenue and dwell time, the usual
interval is too low: logs in which large rewards happen to be missing have a low estimate and a
small standard error. There the studentised statistic is transformed to remove its skewness (Hall
1992, "On the removal of skewness by transformation", Journal of the Royal Statistical Society B 54,
p. 221).

Where rewards are rare and of one size, as clicks are, the usual interval is too short: a few
sessions carry the estimate, and those that would have made it larger are missing. There the
rewarded part of the contributions counts as a sum of weighted events, with the gamma interval of
Fay and Feuer (1997, "Confidence intervals for directly standardized rates", Statistics in Medicine
16, p. 791). Positive and negative events and the rest are combined by the method of variance
estimates recovery (Zou and Donner 2008, "Construction of confidence limits about effect measures",
Statistics in Medicine 27, p. 1693).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from slateflow.evaluation.returns import standard_error
from slateflow.evaluation.verdict import CONFIDENCE, Comparison, compare

Array = NDArray[np.float64]
Limits = tuple[float, float]

RARE_REWARD_SHARE = 0.1
"""Share of sessions with a reward below which rewards count as rare."""

LEAST_P = 1e-15
"""Least p-value of an estimate from logs. The confidence of a smaller one is 1 in double precision,
and tails that far out are those of no actual log."""

MOST_UNLIKE = 1.5
"""Largest ratio of the skewness of a sum of rewards that count as events to that of equal events.
For log-normal sizes the ratio is exp(σ²): 1.3 for σ = 0.5, and 2.7 for σ = 1, where samples have
1.5 and more."""


@dataclass(frozen=True)
class WeightedErrors:
    """A model's errors in the rewards of T decisions of E sessions, and their weights.

    Attributes:
        weight: (T,) weights of a policy, or differences of two policies' weights.
        error: (T,) reward − expected reward.
        reward: (T,) reward − usual reward.
        missing: Share of the policy's choices that happen to be missing from the logs, × the weight
            of a row that would show them; or the difference of two.
        by_session: (E,) sums of weight × error; None where each decision is a session.
    """

    weight: Array
    error: Array
    reward: Array
    missing: float = 0.0
    by_session: Array | None = None

    def __sub__(self, other: WeightedErrors) -> WeightedErrors | None:
        """Errors of the difference; None where values were fitted to different decisions."""
        if len(self.weight) != len(other.weight):
            return None
        return replace(
            self,
            weight=self.weight - other.weight,
            missing=self.missing - other.missing,
            by_session=self.weighted - other.weighted,
        )

    @property
    def weighted(self) -> Array:
        """(E,) sums of weight × error."""
        return self.weight * self.error if self.by_session is None else self.by_session

    @property
    def missing_variance(self) -> float:
        """Variance from the errors of rows that happen to be missing from the logs.

        The logged weights do not show it. These errors are assumed to be like those of all rows.
        """
        squares = abs(self.missing) * float(np.square(self.error).sum())
        return squares / len(self.weighted) ** 2


@dataclass(frozen=True)
class Contributions:
    """Contributions of E sessions to a return, or to the difference of two.

    Attributes:
        dense: (E,) the part that every session has: all but `rewarded`.
        rewarded: (E,) sums of weight × (reward − usual reward), 0 without such events; None where
            `usual` finds none, and `dense` contains everything.
        errors: Errors of all decisions; None where they are unknown.
        within: Contributions of the sessions, where `dense` and `rewarded` are those of V visitors.
    """

    dense: Array
    rewarded: Array | None = None
    errors: WeightedErrors | None = None
    within: Contributions | None = None

    @classmethod
    def of(
        cls, model: Array, weighted: Array, reward: Array, errors: WeightedErrors | None = None
    ) -> Contributions:
        """The model's part (E,) and weight × reward (E,), separate where rewards (T,) are rare."""
        if rare(reward):
            return cls(model, weighted, errors)
        return cls(model + weighted, errors=errors)

    def of_visitors(self, visitor: NDArray[np.integer]) -> Contributions:
        """Contributions by visitor: how far the sessions of each visitor move the mean of all.

        Args:
            visitor: (E,) number of the visitor of each session, from 0.
        """
        share = (int(visitor.max()) + 1) / len(visitor)

        def summed(values: Array) -> Array:
            return np.asarray(np.bincount(visitor, values) * share)

        dense = self.value + summed(self.dense - self.value)
        rewarded = None if self.rewarded is None else summed(self.rewarded)
        return Contributions(dense, rewarded, self.errors, self)

    def __sub__(self, other: Contributions) -> Contributions:
        """The difference on the same sessions."""
        errors = None
        if self.errors is not None and other.errors is not None:
            errors = self.errors - other.errors
        within = None
        if self.within is not None and other.within is not None:
            within = self.within - other.within
        first, second = self.rewarded, other.rewarded
        if first is not None and second is not None and self._events_of(other):
            return Contributions(self.dense - other.dense, first - second, errors, within)
        return Contributions(self.sums - other.sums, None, errors, within)

    def _events_of(self, other: Contributions) -> bool:
        """True if both have the same rewards as events, as far as known."""
        if self.errors is None or other.errors is None:
            return True
        return np.array_equal(self.errors.reward, other.errors.reward)

    @property
    def sessions(self) -> int:
        """E, the number of contributions whose mean is the estimate."""
        return len(self.dense) if self.within is None else self.within.sessions

    @property
    def skewness(self) -> float:
        """Skewness of the estimate; 0 where it is unknown.

        The contributions' skewness is too small in a log in which large rewards happen to be
        missing. So errors are those of all rows, assumed to be independent of the weights, and
        their third cumulant is added to that of the rest. Skewness by visitor exceeds that by
        session in the ratio of the standard errors, as if all sessions of a visitor were alike.
        """
        if self.within is not None:
            least = self.within.sem
            return self.within.skewness * max(1.0, self.sem / least if least else 1.0)
        if self.errors is None:
            return 0.0
        weight, error = self.errors.weight, self.errors.error - self.errors.error.mean()
        rest = self.dense - self.errors.weighted
        rest = rest - rest.mean()
        square, cube = (
            float((rest**power).sum() + (weight**power).sum() * (error**power).mean())
            for power in (2, 3)
        )
        square += self.errors.missing_variance * len(self.dense) ** 2
        return cube / square**1.5 if square else 0.0

    @property
    def sums(self) -> Array:
        """(E,) both parts together."""
        return self.dense if self.rewarded is None else self.dense + self.rewarded

    @property
    def value(self) -> float:
        """The estimate."""
        return float(self.sums.mean())

    @property
    def sem(self) -> float:
        """Standard error of the estimate."""
        return self._error(self.sums)

    def _error(self, values: Array) -> float:
        """Standard error of the mean of values (E,), the variance of missing rows included."""
        missing = 0.0 if self.errors is None else self.errors.missing_variance
        return math.hypot(standard_error(values), math.sqrt(missing))

    def _degrees(self) -> float:
        """Degrees of freedom of the standard error of the dense part.

        1 / degrees is half of the amount by which Σ d⁴ / (Σ d²)² over visitors exceeds its value if
        all visitors had come equally often.
        """
        count, least = len(self.dense), 1 / (len(self.dense) - 1)
        if self.within is None:
            return 1 / least
        each = self.within.dense
        uneven = _heaviness(self.dense) - _heaviness(each) * len(each) / count
        return 1 / max(uneven / 2, least)

    def interval(self, confidence: float = CONFIDENCE) -> Limits:
        """The interval of the estimate; unbounded for a single session."""
        if len(self.dense) < 2:
            return -np.inf, np.inf
        if self.rewarded is None:
            return _student(self.dense, self.sem, confidence, self._degrees(), self.skewness)
        count = len(self.dense)
        events = self.rewarded / count
        more, less = np.maximum(events, 0.0), np.maximum(-events, 0.0)
        of_more, of_less = self._one_more(events)
        low, high = weighted_events(less, confidence, of_less)
        return _combined(
            (
                float(self.dense.mean()),
                _student(self.dense, self._error(self.dense), confidence, self._degrees()),
            ),
            (float(more.sum()), weighted_events(more, confidence, of_more)),
            (-float(less.sum()), (-high, -low)),
        )

    def _one_more(self, events: Array) -> tuple[float, float]:
        """Weights of one more event that raises the estimate, and of one that lowers it.

        A log in which events of large weights happen to be missing has a low estimate and small
        weights. So the weights come from all rows, rewarded or not; where these are unknown, from
        all events (E,).
        """
        if self.errors is None:
            return weight_of_one(events), weight_of_one(events)
        weight, reward = self.errors.weight, self.errors.reward
        size = math.copysign(weight_of_one(reward), reward.sum())  # events may be losses
        more, less = (weight_of_one(np.maximum(sign * size * weight, 0.0)) for sign in (1, -1))
        return more / self.sessions, less / self.sessions

    def compare(self) -> Comparison:
        """The estimate as a difference, with its interval and the corresponding p-value."""
        if self.rewarded is not None:
            return Comparison(self.value, self.interval(), p_value(self.value, self.interval))
        if np.ptp(self.dense) == 0:  # there is no statistic
            return compare(self.dense, np.zeros(len(self.dense)))
        statistic = float(without_skewness(np.array(self.value / self.sem), self.skewness))
        beyond = float(special.stdtr(self._degrees(), -abs(statistic)))
        return Comparison(self.value, self.interval(), max(LEAST_P, 2 * beyond))


def rare(reward: Array, weight: Array | None = None) -> bool:
    """True if rewards (E,) are rare, of one sign and of about one size: they count as events.

    The gamma interval takes their sum to be as skewed as that of (Σ r)² / Σ r² equal events; its
    skewness is Σ r³ / (Σ r²)^1.5.

    Args:
        reward: (E,) rewards, 0 where there was none.
        weight: (E,) weights of the rewards, not below 0; None where each counts once.
    """
    events = reward != 0
    share = events.mean() if weight is None else weight[events].sum() / (weight.sum() or 1.0)
    if share >= RARE_REWARD_SHARE or reward.min(initial=0.0) < 0 < reward.max(initial=0.0):
        return False
    one, two, three = (float((np.abs(reward) ** power).sum()) for power in (1, 2, 3))
    return one * three <= MOST_UNLIKE * two**2


def usual(reward: Array, weight: Array | None) -> float | None:
    """The reward of nearly every decision, so that other rewards (E,) are events; None without one.

    Where most users click, users who do not are as rare as clicks elsewhere. That may hold in the
    logs, or under a policy.

    Args:
        reward: (E,) logged rewards.
        weight: (E,) weights that turn them into the policy's, not below 0; None if unknown.
    """
    ends = float(reward.min()), float(reward.max())  # events are all above, or all below
    found = (one for share in (None, weight) for one in ends if rare(reward - one, share))
    return next(found, None)


def weighted_events(events: Array, confidence: float = CONFIDENCE, one_more: float = 0.0) -> Limits:
    """Gamma interval of the expected sum of independent events of different weights.

    The upper limit allows for one event more than were observed. Fay and Feuer give it the largest
    weight, which always covers but is wide; here it has the weighted mean of the observed events'
    weights, or `one_more` if that is larger.

    Args:
        events: (E,) weights of the events, 0 where there was none.
        confidence: Probability with which the interval contains the truth.
        one_more: Least weight of the further event.

    Example:
        >>> low, high = weighted_events(np.ones(10))  # ten events: the exact interval of Poisson
        >>> round(low, 2), round(high, 2)
        (4.8, 18.39)
    """
    total, squares = float(events.sum()), float(np.square(events).sum())
    low, high = gamma_limits(
        np.array(total),
        np.array(squares),
        np.array(max(squares / total if total else 0.0, one_more)),
        (1 - confidence) / 2,
    )
    return float(low), float(high)


def gamma_limits(
    total: Array, variance: Array, one_more: Array, tail: float
) -> tuple[Array, Array]:
    """Limits of expected sums of weighted events (Fay and Feuer 1997, equations 3 and 4).

    Args:
        total: Observed sums.
        variance: Variances of the sums, estimated from the observed events.
        one_more: Weight of the further event for which the upper limits allow.
        tail: Probability beyond each limit.
    """
    low = _gamma_quantile(special.gammaincinv, total, variance, tail)
    above = total + one_more, variance + np.square(one_more)
    return low, _gamma_quantile(special.gammainccinv, *above, tail)


def _gamma_quantile(
    inverse: Callable[..., Array], mean: Array, variance: Array, tail: float
) -> Array:
    """Quantiles of gamma distributions; for those without variance their means."""
    spread = (mean > 0) & (variance > 0)
    shape = np.divide(np.square(mean), variance, out=np.ones_like(mean), where=spread)
    return np.where(spread, mean / shape * inverse(shape, tail), mean)


def weight_of_one(events: Array) -> float:
    """The weighted mean Σ w² / Σ |w| of the events' weights w; 0 without events."""
    total = float(np.abs(events).sum())
    return float(np.square(events).sum()) / total if total else 0.0


def p_value(value: float, interval: Callable[[float], Limits]) -> float:
    """Two-sided p-value: 1 − the confidence at which the interval ends at 0, or `LEAST_P`."""
    from scipy import optimize  # takes long to import

    if value == 0:
        return 1.0

    def distance(logarithm: float) -> float:
        low, high = interval(-np.expm1(logarithm))
        return low if value > 0 else -high

    least = np.log(LEAST_P)
    if distance(least) > 0:
        return LEAST_P
    almost_one = np.log1p(-1e-9)
    if distance(almost_one) < 0:  # skewed limits need not contain the estimate at confidence 0
        return 1.0
    return float(np.exp(optimize.brentq(distance, least, almost_one, xtol=1e-6)))


def without_skewness(statistic: Array, skewness: float) -> Array:
    """Hall's transformation t + γ t² / 3 + γ² t³ / 27 + γ / 6 of a studentised statistic t.

    The transformation is increasing. By the Edgeworth expansion P(t ≤ x) = Φ(x) +
    γ (2 x² + 1) φ(x) / 6, and for the transformed statistic it is Φ(x), up to terms in γ².

    Args:
        statistic: (estimate − truth) / standard error.
        skewness: γ, the estimate's skewness: that of a contribution / √E.
    """
    return statistic + skewness * (np.square(statistic) / 3 + skewness * statistic**3 / 27 + 1 / 6)


def with_skewness(transformed: Array, skewness: float) -> Array:
    """The inverse of `without_skewness`.

    With u = 1 + γ t / 3 the transformation is (u³ − 1) / γ + γ / 6, and u³ − 1 =
    (u − 1) (u² + u + 1).
    """
    cubed = transformed - skewness / 6
    root = np.cbrt(1 + skewness * cubed)
    return np.asarray(3 * cubed / (root**2 + root + 1))


def _heaviness(values: Array) -> float:
    """Σ d⁴ / (Σ d²)² of values (E,) less their mean, d: 3 / E if normal, 0 if all are equal."""
    squares = np.square(values - values.mean())
    total = float(squares.sum())
    return float(np.square(squares).sum()) / total**2 if total else 0.0


def _student(
    values: Array, error: float, confidence: float, degrees: float, skewness: float = 0.0
) -> Limits:
    """Limits by Student's t for the mean of values, with a given standard error and skewness."""
    mean = float(values.mean())
    reach = float(special.stdtrit(degrees, (1 + confidence) / 2))
    low, high = with_skewness(np.array([-reach, reach]), skewness)
    return mean - float(high) * error, mean - float(low) * error


def _combined(*parts: tuple[float, Limits]) -> Limits:
    """The interval of a sum of estimates, each with its interval (Zou and Donner 2008)."""
    total = sum(estimate for estimate, _ in parts)
    below = sum((estimate - low) ** 2 for estimate, (low, _) in parts)
    above = sum((high - estimate) ** 2 for estimate, (_, high) in parts)
    return total - float(np.sqrt(below)), total + float(np.sqrt(above))
