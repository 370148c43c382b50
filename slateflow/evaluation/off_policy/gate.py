"""The gate of held-out values: an estimate, or the reason why there is none.

An evaluation from logs always gives a number. Where a policy shows what the logs hardly show, the
number is a guess, however sure it looks; where it lies outside the range of possible returns, it is
not even that.
"""

from __future__ import annotations

from dataclasses import dataclass

from slateflow.evaluation.off_policy.fitted_q_evaluation import Estimator
from slateflow.policies import AnyScorer

MOST_UNSEEN = 0.1
"""Share of a policy's choices that the logs may hardly have seen."""


@dataclass(frozen=True)
class HeldOutValue:
    """The return of a policy on held-out episodes; None with the reason if it cannot be told."""

    value: float | None
    reason: str = ""


def held_out_value(estimator: Estimator, scorer: AnyScorer) -> HeldOutValue:
    """Estimate, unless the policy leaves what the logs have seen or the value is impossible."""
    unseen = estimator.hardly_seen(scorer)
    if unseen > MOST_UNSEEN:
        return HeldOutValue(
            None,
            f"the logs have hardly seen {unseen:.0%} of what this policy shows, at most "
            f"{MOST_UNSEEN:.0%} is allowed; log a random policy, too",
        )
    value, rewards = estimator.value(scorer), estimator.rows.reward
    low, high = (estimator.horizon * float(reward) for reward in (rewards.min(), rewards.max()))
    if estimator.rows.lengths.min() < estimator.horizon:  # shorter sessions return less
        low, high = min(low, 0.0, float(rewards.min())), max(high, 0.0, float(rewards.max()))
    rounding = 1e-6 * max(abs(low), abs(high))
    if not low - rounding <= value <= high + rounding:
        return HeldOutValue(
            None,
            f"expected a return of {low:.4g} to {high:.4g} on held-out logs, got {value:.4g}; the "
            "logs rarely show what this policy shows; log more episodes",
        )
    return HeldOutValue(value)
