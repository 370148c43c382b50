"""Policies, which choose slates, each with a probability."""

from slateflow.policies.base import (
    Policy,
    Session,
    SessionPolicy,
    Slates,
    top_slates,
)
from slateflow.policies.behaviour import (
    BEHAVIOURS,
    Behaviour,
    EpsilonMixture,
    GreedyPolicy,
    RandomPolicy,
    behaviour_label,
    behaviour_policy,
    uniform_propensities,
)
from slateflow.policies.learned import (
    AnyScorer,
    ScoringPolicy,
    SessionScorer,
    load_scorer,
    scorer_code,
)
from slateflow.policies.scorer import Scorer
from slateflow.policies.slate_scorer import SlateScorer
from slateflow.policies.softmax import SoftmaxPolicy

__all__ = [
    "BEHAVIOURS",
    "AnyScorer",
    "Behaviour",
    "EpsilonMixture",
    "GreedyPolicy",
    "Policy",
    "RandomPolicy",
    "Scorer",
    "ScoringPolicy",
    "Session",
    "SessionPolicy",
    "SessionScorer",
    "SlateScorer",
    "Slates",
    "SoftmaxPolicy",
    "behaviour_label",
    "behaviour_policy",
    "load_scorer",
    "scorer_code",
    "top_slates",
    "uniform_propensities",
]
