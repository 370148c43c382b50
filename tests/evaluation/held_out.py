"""The value of a scorer by the estimator of its world."""

from __future__ import annotations

from slateflow.evaluation.off_policy.fitted_q_evaluation import held_out_estimator, memory_decays
from slateflow.policies import AnyScorer
from slateflow.trajectories import Dataset


def held_out_value(dataset: Dataset, scorer: AnyScorer) -> float:
    return held_out_estimator(dataset, memory_decays(scorer)).value(scorer)
