"""The verdict: who is better than random, by how much, and who wins."""

from __future__ import annotations

from dataclasses import dataclass

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
class Baseline:
    """The policy that everyone is compared with."""

    policy: str
    mean: float
    sem: float
    episodes: int


@dataclass(frozen=True)
class Candidate:
    """A learner beside the baseline and the champion.

    Attributes:
        learner: Its name.
        mean: Mean return of an episode.
        sem: Standard error of the mean.
        over_baseline: Difference to random; its p-value is Holm-corrected over the candidates.
        over_champion: Difference to the reigning champion; None where there is none.
        score: 0 for random, 1 for the optimum; None where the optimum is not known.
        winner: Whether it is the one to register.
    """

    learner: str
    mean: float
    sem: float
    over_baseline: Comparison
    over_champion: Comparison | None
    score: float | None
    winner: bool


@dataclass(frozen=True)
class Verdict:
    """Baseline, optimum and candidates, best first."""

    baseline: Baseline
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
    candidates: dict[str, Returns],
    optimum: float | None = None,
    champion: Returns | None = None,
    baseline_policy: str = "random",
) -> Verdict:
    """Compare every candidate with the baseline and the champion.

    The winner is the best of those whose uplift over the baseline, and over the champion where
    there is one, has its lower bound above zero.
    """
    over_baseline = {name: compare(returns, baseline) for name, returns in candidates.items()}
    corrected = holm([comparison.p_value for comparison in over_baseline.values()])
    adjusted = {
        name: Comparison(comparison.uplift, comparison.ci, p_value)
        for (name, comparison), p_value in zip(over_baseline.items(), corrected, strict=True)
    }
    over_champion = {
        name: None if champion is None else compare(returns, champion)
        for name, returns in candidates.items()
    }
    ranked = sorted(candidates, key=lambda name: float(candidates[name].mean()), reverse=True)
    winner = next(
        (name for name in ranked if _beats(adjusted[name], over_champion[name])),
        None,
    )
    room = None if optimum is None else optimum - float(baseline.mean())
    return Verdict(
        baseline=Baseline(
            baseline_policy, float(baseline.mean()), standard_error(baseline), len(baseline)
        ),
        optimum=optimum,
        candidates=tuple(
            Candidate(
                learner=name,
                mean=float(candidates[name].mean()),
                sem=standard_error(candidates[name]),
                over_baseline=adjusted[name],
                over_champion=over_champion[name],
                score=adjusted[name].uplift / room if room is not None and room > 0 else None,
                winner=name == winner,
            )
            for name in ranked
        ),
    )


def _beats(over_baseline: Comparison, over_champion: Comparison | None) -> bool:
    return over_baseline.better and (over_champion is None or over_champion.better)
