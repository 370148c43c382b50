"""Policies: what chooses slates, and with which probability."""

from slateflow.policies.base import Policy, Propensities, Slates, top_slates
from slateflow.policies.behaviour import (
    BEHAVIOURS,
    AffinityPolicy,
    GreedyPolicy,
    RandomPolicy,
    behaviour_labels,
    behaviour_policy,
)
from slateflow.policies.learned import ScoringPolicy
from slateflow.policies.scorer import Scorer

__all__ = [
    "BEHAVIOURS",
    "AffinityPolicy",
    "GreedyPolicy",
    "Policy",
    "Propensities",
    "RandomPolicy",
    "Scorer",
    "ScoringPolicy",
    "Slates",
    "behaviour_labels",
    "behaviour_policy",
    "top_slates",
]
