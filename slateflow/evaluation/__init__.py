"""Evaluation: returns on common users, the optimum, and the verdict."""

from slateflow.evaluation.baseline import PolicyBaseline, measure_baselines
from slateflow.evaluation.returns import episode_returns, standard_error
from slateflow.evaluation.verdict import (
    Candidate,
    Comparison,
    PlayedPolicy,
    Verdict,
    compare,
    decide_winner,
)

__all__ = [
    "Candidate",
    "Comparison",
    "PlayedPolicy",
    "PolicyBaseline",
    "Verdict",
    "compare",
    "decide_winner",
    "episode_returns",
    "measure_baselines",
    "standard_error",
]
