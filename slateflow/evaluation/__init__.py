"""Evaluation: returns on common users, the optimum, and the verdict."""

from slateflow.evaluation.baseline import PolicyBaseline, measure_baselines
from slateflow.evaluation.returns import episode_returns, optimal_returns, standard_error
from slateflow.evaluation.verdict import (
    Candidate,
    Comparison,
    Contender,
    PlayedPolicy,
    Score,
    Verdict,
    compare,
    decide,
    played_verdict,
)

__all__ = [
    "Candidate",
    "Comparison",
    "Contender",
    "PlayedPolicy",
    "PolicyBaseline",
    "Score",
    "Verdict",
    "compare",
    "decide",
    "episode_returns",
    "measure_baselines",
    "optimal_returns",
    "played_verdict",
    "standard_error",
]
