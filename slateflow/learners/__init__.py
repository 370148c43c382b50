"""Learners: from a dataset and a configuration to a policy and a training summary."""

from slateflow.learners.config import (
    LEARNERS,
    LearnerConfig,
    learner_config,
    learners_for,
    learners_left_out,
)
from slateflow.learners.training import TrainingSummary, import_rllib, train, train_live

__all__ = [
    "LEARNERS",
    "LearnerConfig",
    "TrainingSummary",
    "import_rllib",
    "learner_config",
    "learners_for",
    "learners_left_out",
    "train",
    "train_live",
]
