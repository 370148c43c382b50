"""Policies: what chooses slates, and with which probability."""

from slateflow.policies.base import Policy, Propensities, SlateDistribution, Slates, top_slates
from slateflow.policies.behaviour import (
    BEHAVIOURS,
    Behaviour,
    GreedyPolicy,
    RandomPolicy,
    behaviour_label,
    behaviour_labels,
    behaviour_policy,
)
from slateflow.policies.learned import ScoringPolicy
from slateflow.policies.mixture import EpsilonMixture
from slateflow.policies.rules import ScoringRule, scoring_rule
from slateflow.policies.scorer import Scorer
from slateflow.policies.softmax import SoftmaxPolicy

__all__ = [
    "BEHAVIOURS",
    "Behaviour",
    "EpsilonMixture",
    "GreedyPolicy",
    "Policy",
    "Propensities",
    "RandomPolicy",
    "Scorer",
    "ScoringPolicy",
    "ScoringRule",
    "SlateDistribution",
    "Slates",
    "SoftmaxPolicy",
    "behaviour_label",
    "behaviour_labels",
    "behaviour_policy",
    "scoring_rule",
    "top_slates",
]
