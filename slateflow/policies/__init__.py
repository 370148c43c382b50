"""Policies: what chooses slates, and with which probability."""

from slateflow.policies.base import (
    Policy,
    Propensities,
    Session,
    SessionPolicy,
    SlateDistribution,
    Slates,
    top_slates,
)
from slateflow.policies.behaviour import (
    BEHAVIOURS,
    Behaviour,
    GreedyPolicy,
    RandomPolicy,
    behaviour_label,
    behaviour_labels,
    behaviour_policy,
)
from slateflow.policies.learned import AnyScorer, ScoringPolicy, load_scorer
from slateflow.policies.mixture import EpsilonMixture
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
    "Propensities",
    "RandomPolicy",
    "Scorer",
    "ScoringPolicy",
    "Session",
    "SessionPolicy",
    "SlateDistribution",
    "SlateScorer",
    "Slates",
    "SoftmaxPolicy",
    "behaviour_label",
    "behaviour_labels",
    "behaviour_policy",
    "load_scorer",
    "top_slates",
]
