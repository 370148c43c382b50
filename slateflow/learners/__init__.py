"""Learners: a dataset and a configuration in, a policy and a report out."""

from slateflow.learners.config import LEARNERS, LearnerConfig, learner_config, learners_for
from slateflow.learners.training import TrainingSummary, train, train_live

__all__ = [
    "LEARNERS",
    "LearnerConfig",
    "TrainingSummary",
    "learner_config",
    "learners_for",
    "train",
    "train_live",
]
