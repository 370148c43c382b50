"""Evaluation: returns on common users, the optimum, and the verdict."""

from slateflow.evaluation.baseline import PolicyBaseline, measure_baselines
from slateflow.evaluation.returns import episode_returns, standard_error
from slateflow.evaluation.verdict import (
    Baseline,
    Candidate,
    Comparison,
    Verdict,
    compare,
    decide_winner,
)

__all__ = [
    "Baseline",
    "Candidate",
    "Comparison",
    "PolicyBaseline",
    "Verdict",
    "compare",
    "decide_winner",
    "episode_returns",
    "measure_baselines",
    "standard_error",
]
