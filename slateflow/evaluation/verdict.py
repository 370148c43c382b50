"""The verdict: who is better than random, by how much, and who wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from slateflow.errors import InputError
from slateflow.evaluation.returns import standard_error

Returns = NDArray[np.float64]  # (E,), of the same users in the same order for every policy

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Paired difference of the returns of two policies on the same users."""

    uplift: float
    ci: tuple[float, float]  # 95%, two-sided
    p_value: float  # two-sided

    @property
    def better(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.ci[0] > 0


@dataclass(frozen=True)
class PlayedPolicy:
    """The mean return of a policy that is no candidate, and its standard error."""

    policy: str
    mean: float
    sem: float
    episodes: int

    @classmethod
    def from_returns(cls, policy: str, returns: Returns) -> PlayedPolicy:
        """Sum up returns."""
        return cls(policy, float(returns.mean()), standard_error(returns), len(returns))


@dataclass(frozen=True)
class Candidate:
    """A learner beside the baseline and the champion.

    Attributes:
        learner: Its name.
        mean: Mean return of an episode.
        sem: Standard error of the mean.
        over_baseline: Difference to random; its p-value is Holm-corrected over the candidates.
        over_champion: Difference to the reigning champion; None where there is none.
        over_logged: Difference to the best logging policy; None where they are not known.
        score: 0 for random, 1 for the optimum; None where the optimum is not known.
        winner: Whether it is the one to register.
    """

    learner: str
    mean: float
    sem: float
    over_baseline: Comparison
    over_champion: Comparison | None
    over_logged: Comparison | None
    score: float | None
    winner: bool


@dataclass(frozen=True)
class Verdict:
    """Baseline, logging policies, optimum and candidates; the best ones first."""

    baseline: PlayedPolicy
    logged: tuple[PlayedPolicy, ...]
    optimum: float | None
    candidates: tuple[Candidate, ...]

    @property
    def winner(self) -> Candidate | None:
        """The candidate to register; None is a verdict, too."""
        return next((candidate for candidate in self.candidates if candidate.winner), None)


def compare(returns: Returns, others: Returns) -> Comparison:
    """Paired t-interval and t-test of returns − others.

    Raises:
        InputError: There are fewer than two episodes, or not the same on both sides.
    """
    if len(returns) != len(others):
        raise InputError(
            f"returns: expected those of the same users, got {len(returns)} and {len(others)}"
        )
    if len(returns) < 2:
        raise InputError(f"episodes: expected at least 2 to compare, got {len(returns)}")
    difference = returns - others
    mean = float(difference.mean())
    if np.ptp(difference) == 0:  # two policies that do the same; the t-test divides by zero
        return Comparison(mean, (mean, mean), 1.0 if mean == 0 else 0.0)
    test = stats.ttest_1samp(difference, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    return Comparison(mean, (float(low), float(high)), float(test.pvalue))


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


def decide_winner(
    baseline: Returns,
    candidates: Mapping[str, Returns],
    optimum: float | None = None,
    champion: Returns | None = None,
    logged: Mapping[str, Returns] | None = None,
    baseline_policy: str = "random",
) -> Verdict:
    """Compare every candidate with the baseline, the logging policies and the champion.

    The winner is the best of those whose uplift over the baseline, and over the champion where
    there is one, has its lower bound above zero, and whose difference to the best logging policy
    does not lie below zero: what already runs is not replaced by something worse.

    Args:
        baseline: Returns of the policy that everyone is compared with.
        candidates: Returns of each learner's policy.
        optimum: The best expected return, where it is known.
        champion: Returns of the reigning champion.
        logged: Returns of each policy that wrote the logs.
        baseline_policy: Name of the baseline.
    """
    over_baseline = {name: compare(returns, baseline) for name, returns in candidates.items()}
    corrected = holm([comparison.p_value for comparison in over_baseline.values()])
    room = None if optimum is None else optimum - float(baseline.mean())
    played = [PlayedPolicy.from_returns(name, returns) for name, returns in (logged or {}).items()]
    played.sort(key=lambda policy: policy.mean, reverse=True)
    best_logged = logged[played[0].policy] if logged else None
    found = []
    for (name, over), p_value in zip(over_baseline.items(), corrected, strict=True):
        returns = candidates[name]
        found.append(
            Candidate(
                learner=name,
                mean=float(returns.mean()),
                sem=standard_error(returns),
                over_baseline=replace(over, p_value=p_value),
                over_champion=None if champion is None else compare(returns, champion),
                over_logged=None if best_logged is None else compare(returns, best_logged),
                score=over.uplift / room if room is not None and room > 0 else None,
                winner=False,
            )
        )
    found.sort(key=lambda candidate: candidate.mean, reverse=True)
    winner = next((candidate for candidate in found if _wins(candidate)), None)
    return Verdict(
        baseline=PlayedPolicy.from_returns(baseline_policy, baseline),
        logged=tuple(played),
        optimum=optimum,
        candidates=tuple(replace(one, winner=one is winner) for one in found),
    )


def _wins(candidate: Candidate) -> bool:
    over_champion, over_logged = candidate.over_champion, candidate.over_logged
    return (
        candidate.over_baseline.better
        and (over_champion is None or over_champion.better)
        and (over_logged is None or over_logged.ci[1] >= 0)
    )
