"""The settings that learners with live users share. Importing this imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from slateflow.learners.config import Count, CountOrZero, Trained
from slateflow.learners.rllib.network_config import NetworkConfig
from slateflow.progress import Progress
from slateflow.validation import validated

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from slateflow.environments import EnvironmentSpec


@validated
class LiveConfig(NetworkConfig, ABC):
    """Settings of a learner that interacts with users instead of reading logs."""

    live: ClassVar[bool] = True

    width: Count = 64
    """Units in a hidden layer."""
    live_steps: Count = 300_000
    """Most steps with live users, including those of the survey before the learning."""
    users: Count = 64
    """Users in lockstep."""
    steps: Count = 64
    """Steps that each user takes between two updates of the network."""
    survey_episodes: Count = 64
    """Random episodes before the learning, for the mean reward and the scale of the features."""
    num_env_runners: CountOrZero = 0
    """Processes of Ray that sample, each a share of the users; 0 samples in this process."""

    @property
    def round_steps(self) -> int:
        """Steps of all users between two points of a training curve."""
        return self.users * self.steps

    @property
    def training(self) -> dict[str, Any]:
        """The arguments of RLlib's `training` that all live learners share."""
        return {
            "gamma": 1.0,
            "lr": [[0, self.learning_rate], [self.live_steps, self.learning_rate / 100]],
            "grad_clip": self.max_grad_norm,
            "grad_clip_by": "global_norm",
        }

    @abstractmethod
    def algorithm(self, sizes: dict[str, Any]) -> AlgorithmConfig:
        """RLlib's configuration; `sizes` is the network's `model_config`."""

    def seed_algorithm(self, algorithm: Algorithm, seed: int) -> None:
        """Seed generators that RLlib does not seed itself."""

    def train_live(self, spec: EnvironmentSpec, seed: int, progress: Progress) -> Trained:
        """Train on RLlib, in the batched simulator."""
        from slateflow.learners.rllib.live import train_with_users

        return train_with_users(spec, self, seed, progress)
