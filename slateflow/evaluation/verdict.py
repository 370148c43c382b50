"""The verdict: which policies are better than random, by how much, and which one wins.

`decide` takes comparisons of any origin; `played_verdict` makes them from returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from scipy import special

from slateflow.errors import InputError
from slateflow.evaluation.returns import Returns, standard_error

VerdictWord = Literal["winner", "better", "undecided", "worse", "no verdict"]
Interval = tuple[float, float]

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05  # level of corrected two-sided p-values


@dataclass(frozen=True)
class Comparison:
    """Paired difference of two policies on the same users."""

    uplift: float
    ci: Interval  # 95%, two-sided, of this difference alone
    p_value: float  # two-sided


Compared = TypeVar("Compared", Comparison, Comparison | None)


@dataclass(frozen=True)
class Score:
    """Share of the way from the baseline to the optimum."""

    value: float
    ci: Interval  # 95%


@dataclass(frozen=True)
class PlayedPolicy:
    """A policy that is not a candidate: mean return, standard error, and score where known."""

    policy: str
    mean: float
    sem: float
    episodes: int
    score: Score | None = None


@dataclass(frozen=True)
class Contender:
    """A learner before the decision; the p-values of its comparisons are not corrected.

    Attributes:
        learner: Name of the learner.
        mean: Mean return of an episode.
        sem: Standard error of the mean.
        over_baseline: Difference from random.
        over_champion: Difference from the current champion; None without a champion.
        over_logged: Difference from the best logging policy; None where they are not known.
        score: 0 for random, 1 for the optimum; None where the optimum is not known.
    """

    learner: str
    mean: float
    sem: float
    over_baseline: Comparison
    over_champion: Comparison | None = None
    over_logged: Comparison | None = None
    score: Score | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate(Contender):
    """A learner after the decision.

    The p-values of `over_baseline`, and those of `over_champion`, are Holm-corrected over the
    candidates; that of `over_logged` is not.
    """

    p_value: float  # corrected, for not being better than both random and the champion
    verdict: VerdictWord


@dataclass(frozen=True)
class Verdict:
    """Baseline, logging policies, optimum, champion and candidates; the best candidates first."""

    baseline: PlayedPolicy
    logged: tuple[PlayedPolicy, ...]
    optimum: PlayedPolicy | None
    champion: PlayedPolicy | None
    candidates: tuple[Candidate, ...]

    @property
    def winner(self) -> Candidate | None:
        """The candidate to register; None if no candidate wins."""
        return next((one for one in self.candidates if one.verdict == "winner"), None)


def decide(contenders: Iterable[Contender]) -> tuple[Candidate, ...]:
    """Correct the p-values for the number of candidates, and decide which one wins.

    A winner has to be better than the baseline and, if there is one, than the champion: its p-value
    is the larger of the two (the intersection-union test, Berger 1982), corrected over the
    candidates (Holm 1979). Below 0.05 two-sided, with both differences positive, a candidate that
    is not better is promoted in at most 2.5% of the verdicts, whatever the number of candidates.
    Nor may the interval of its difference from the best logging policy lie below zero, so that no
    running policy is replaced by a worse one. Among the candidates that may win, the highest mean
    wins.

    The words "better" and "worse" depend on the corrected p-value against the baseline.

    Returns:
        The candidates, best mean first.
    """
    found = sorted(contenders, key=lambda one: one.mean, reverse=True)
    deciding = holm([max(each.p_value for each in _to_beat(one)) for one in found])
    over_baseline = _corrected([one.over_baseline for one in found])
    over_champion = _corrected([one.over_champion for one in found])
    candidates = [
        Candidate(
            **vars(one) | {"over_baseline": baseline, "over_champion": champion},
            p_value=p_value,
            verdict=_word(baseline),
        )
        for one, baseline, champion, p_value in zip(
            found, over_baseline, over_champion, deciding, strict=True
        )
    ]
    winner = next((one for one in candidates if _may_win(one)), None)
    return tuple(replace(one, verdict="winner") if one is winner else one for one in candidates)


def _to_beat(one: Contender) -> list[Comparison]:
    return [each for each in (one.over_baseline, one.over_champion) if each is not None]


def _may_win(candidate: Candidate) -> bool:
    return (
        candidate.p_value < SIGNIFICANCE
        and all(each.uplift > 0 for each in _to_beat(candidate))
        and (candidate.over_logged is None or candidate.over_logged.ci[1] >= 0)
    )


def _word(over_baseline: Comparison) -> VerdictWord:
    if over_baseline.p_value >= SIGNIFICANCE:
        return "undecided"
    return "better" if over_baseline.uplift > 0 else "worse"


def _corrected(comparisons: Sequence[Compared]) -> list[Compared]:
    """The comparisons, with p-values corrected over those that are not None."""
    p_values = iter(holm([one.p_value for one in comparisons if one is not None]))
    return [one if one is None else replace(one, p_value=next(p_values)) for one in comparisons]


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]


def compare(returns: Returns, others: Returns) -> Comparison:
    """Paired t-interval and t-test of returns − others.

    Raises:
        InputError: There are fewer than two episodes, or different numbers on the two sides.
    """
    if len(returns) != len(others):
        raise InputError(
            f"returns: expected those of the same users, got {len(returns)} and {len(others)}"
        )
    if len(returns) < 2:
        raise InputError(f"episodes: expected at least 2 to compare, got {len(returns)}")
    difference = returns - others
    mean = float(difference.mean())
    if np.ptp(difference) == 0:  # the policies behave identically; the t-test divides by zero
        return Comparison(mean, (mean, mean), 1.0 if mean == 0 else 0.0)
    degrees, error = len(difference) - 1, standard_error(difference)
    reach = float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(special.stdtr(degrees, -abs(mean) / error))
    return Comparison(mean, (mean - reach, mean + reach), p_value)


def score(returns: Returns, baseline: Returns, optimum: Returns | None) -> Score | None:
    """Share of the way from the baseline to the optimum, all three on the same users.

    The score is the ratio of the means of G = returns − baseline and R = optimum − baseline. The
    interval contains every s for which the mean of G − s R is within t standard errors of 0
    (Fieller 1954, Journal of the Royal Statistical Society B 16, p. 175).

    Returns:
        None where the optimum is unknown, or not certainly above the baseline, so that the interval
        would be unbounded.
    """
    if optimum is None:
        return None
    gain, room = returns - baseline, optimum - baseline
    t_squared = special.stdtrit(len(gain) - 1, (1 + CONFIDENCE) / 2) ** 2
    (gain_variance, covariance), (_, room_variance) = t_squared * np.cov(gain, room) / len(gain)
    # The ends of the interval are the roots of a s² − 2 b s + c
    a = room.mean() ** 2 - room_variance
    b = gain.mean() * room.mean() - covariance
    c = gain.mean() ** 2 - gain_variance
    if a <= 0 or room.mean() <= 0:
        return None
    half = np.sqrt(max(b**2 - a * c, 0.0))
    low, high = float((b - half) / a), float((b + half) / a)
    return Score(float(gain.mean() / room.mean()), (low, high))


def played_verdict(
    baseline: Returns,
    candidates: Mapping[str, Returns],
    optimum: Returns | None = None,
    champion: Returns | None = None,
    logged: Mapping[str, Returns] | None = None,
    baseline_policy: str = "random",
) -> Verdict:
    """Decide from returns of all policies on the same users.

    Args:
        baseline: Returns of the policy with which all others are compared.
        candidates: Returns of each learner's policy.
        optimum: Returns of the best policy, where it is known.
        champion: Returns of the current champion.
        logged: Returns of each policy that wrote the logs.
        baseline_policy: Name of the baseline.

    Raises:
        InputError: There are fewer than two episodes, or different numbers of them.
    """

    def played(policy: str, returns: Returns) -> PlayedPolicy:
        return PlayedPolicy(
            policy,
            float(returns.mean()),
            standard_error(returns),
            len(returns),
            score(returns, baseline, optimum),
        )

    wrote = [played(name, returns) for name, returns in (logged or {}).items()]
    wrote.sort(key=lambda policy: policy.mean, reverse=True)
    best_logged = logged[wrote[0].policy] if logged else None
    contenders = [
        Contender(
            learner=name,
            mean=float(returns.mean()),
            sem=standard_error(returns),
            over_baseline=compare(returns, baseline),
            over_champion=None if champion is None else compare(returns, champion),
            over_logged=None if best_logged is None else compare(returns, best_logged),
            score=score(returns, baseline, optimum),
        )
        for name, returns in candidates.items()
    ]
    return Verdict(
        baseline=played(baseline_policy, baseline),
        logged=tuple(wrote),
        optimum=None if optimum is None else played("optimum", optimum),
        champion=None if champion is None else played("champion", champion),
        candidates=decide(contenders),
    )
