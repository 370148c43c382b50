"""What policies would have earned, by logs alone: estimators, overlap, and the one to trust.

Which estimator is trusted follows from the logs' form, before any result is seen. For single
decisions it is doubly robust with propensities (`dr`): the weights of one decision are known, and
unbiased whatever the model (Dudík, Langford and Li 2011). For sessions of several steps, and for
slates from which users choose, products of weights leave nothing over, and it is double
reinforcement learning (`drl`: Kallus and Uehara 2020). The others stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.decision_weights import DecisionWeights
from slateflow.evaluation.off_policy.double_learning import Evidence, Target, evidence_of
from slateflow.evaluation.off_policy.logging_policies import evidence_parts
from slateflow.evaluation.off_policy.overlap import NoVerdict, Overlap
from slateflow.evaluation.off_policy.single_steps import ESTIMATORS, SingleSteps
from slateflow.policies import AnyScorer, Scorer
from slateflow.policies.learned import ScoringPolicy
from slateflow.trajectories import Dataset, Trajectories
from slateflow.user_models.session_memory import fitting_decays

Array = NDArray[np.float64]

MOST_ROWS = 300_000
"""Rows of sessions that are in memory; of more, every second, third … session is taken."""


@dataclass(frozen=True)
class PolicyEstimate:
    """What logs say of a policy.

    Attributes:
        estimates: Contributions of the sessions by estimator.
        trusted: The estimator that decides.
        overlap: How far the logs overlap with the policy.
        refusal: Why the logs cannot judge it; None where they can.
    """

    estimates: dict[str, Contributions]
    trusted: str
    overlap: Overlap
    refusal: NoVerdict | None

    @property
    def contributions(self) -> Contributions:
        """Those of the trusted estimator."""
        return self.estimates[self.trusted]


@dataclass(frozen=True)
class LogEstimates:
    """What logs say of several policies, on the same sessions.

    Attributes:
        logged: What the sessions earned, under the policies that wrote them.
        policies: The estimates of each target.
        rows: Logged steps that are evidence.
    """

    logged: Contributions
    policies: dict[str, PolicyEstimate]
    rows: int

    @property
    def sessions(self) -> int:
        """Logged sessions that are evidence."""
        return len(self.logged.dense)


def estimate_policies(
    dataset: Dataset, targets: Mapping[str, Target], held_out_only: bool
) -> LogEstimates:
    """Estimate the return of a session under each target.

    Args:
        dataset: The logs.
        targets: Policies by name.
        held_out_only: Whether the held-out sessions alone are evidence, because a target was
            learnt from the others.

    Raises:
        InputError: There are too few sessions.
    """
    spec = dataset.spec
    if spec.horizon == 1 and not spec.user_chooses:
        return _of_single_steps(SingleSteps(dataset, held_out_only), targets)
    return _of_sessions(dataset, _rows(dataset, held_out_only), targets)


def _of_single_steps(steps: SingleSteps, targets: Mapping[str, Target]) -> LogEstimates:
    found = {}
    for name, (weighted, overlap) in steps.evaluate(targets).items():
        estimates = {estimator: make(weighted) for estimator, make in ESTIMATORS.items()}
        found[name] = PolicyEstimate(estimates, "dr", overlap, overlap.refusal())
    return LogEstimates(steps.logged(), found, steps.rows)


def _rows(dataset: Dataset, held_out_only: bool) -> Trajectories:
    """Whole sessions, evenly from all of the dataset."""
    every = max(-(-dataset.rows // (MOST_ROWS * (5 if held_out_only else 1))), 1)
    kept, earlier = [], 0
    for rows in evidence_parts(dataset, held_out_only):
        kept.append(rows.where((earlier + rows.sessions) % every == 0))
        earlier += len(rows.starts)
    rows = Trajectories.from_parts(kept) if kept else dataset.read()
    if len(rows.starts) < 2:
        raise InputError(
            f"{dataset.path}: expected at least 2 sessions as evidence, got {len(rows.starts)}; "
            "log more"
        )
    return rows


def _of_sessions(
    dataset: Dataset, rows: Trajectories, targets: Mapping[str, Target]
) -> LogEstimates:
    reward = np.add.reduceat(rows.reward.astype(np.float64), rows.starts)
    decays = () if dataset.spec.user_size else fitting_decays(dataset)
    weights = DecisionWeights.of(dataset, rows)
    prepared: dict[tuple[float, ...], Evidence] = {}
    found = {}
    for name, target in targets.items():
        scorer = target.scorer if isinstance(target, ScoringPolicy) else None
        own = _decays(scorer) or decays
        if own not in prepared:
            prepared[own] = evidence_of(rows, dataset.spec, scorer, decays)
        found[name] = _of_target(prepared[own], target, weights, reward)
    return LogEstimates(Contributions.of(np.zeros(len(reward)), reward, reward), found, len(rows))


def _decays(scorer: AnyScorer | None) -> tuple[float, ...]:
    return tuple(scorer.decays.tolist()) if isinstance(scorer, Scorer) else ()


def _of_target(
    evidence: Evidence, target: Target, weights: DecisionWeights, returns: Array
) -> PolicyEstimate:
    probability = evidence.probabilities(target)
    estimated = evidence.estimate(target)
    estimates = {
        **weights.estimates(probability),
        "dm": Contributions(estimated.start),
        "drl": Contributions(estimated.start + estimated.correction),
    }
    overlap = Overlap.of_weights(
        estimated.weight,
        estimated.weighted,
        evidence.unsupported(target),
        checked=weights.checked(probability),
    )
    refusal = weights.refusal() or overlap.learnt_refusal(len(estimated.weight), len(returns))
    refusal = refusal or _impossible(estimates["drl"].value, evidence.rows)
    return PolicyEstimate(estimates, "drl", overlap, refusal)


def _impossible(value: float, rows: Trajectories) -> NoVerdict | None:
    """Whether no session can have this return."""
    steps, rewards = int(rows.lengths.max()), rows.reward
    low, high = steps * float(rewards.min()), steps * float(rewards.max())
    if rows.lengths.min() < steps:  # shorter sessions return less
        low, high = min(low, 0.0, float(rewards.min())), max(high, 0.0, float(rewards.max()))
    if low <= value <= high:
        return None
    return NoVerdict(
        f"the estimate is {value:.4g}, and a session can return {low:.4g} to {high:.4g}",
        "log more of what this policy shows",
    )
