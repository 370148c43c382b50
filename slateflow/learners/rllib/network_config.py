"""The settings that learners with networks share. Importing this imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from slateflow.environments import EnvironmentSpec
from slateflow.learners.config import (
    Count,
    CountOrZero,
    LearnerConfig,
    NonNegative,
    Trained,
)
from slateflow.learners.search_space import OneOf, Range, Space
from slateflow.progress import Progress
from slateflow.validation import validated

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from slateflow.learners.rllib.scoring_network import ScoringModule
    from slateflow.trajectories import Dataset

MOST_CANDIDATE_NUMBERS = 20_000
"""Most numbers in a row's candidates, in logs from which a network learns by default. It reads all
of them for each row."""

MOST_CANDIDATES = 200
"""Most candidates of a row in such logs: all of them are scored for each row."""

MOST_ITEM_NUMBERS = 2**20
"""Most features of all items of a catalogue in such logs, which each update reads."""

UPDATES_PER_ITERATION = 50
"""Minibatch updates between two points of a training curve."""

NETWORK_SPACE: Space = {
    "learning_rate": Range(5e-4, 1e-2, log=True),
    "width": OneOf((16, 32, 64)),
    "window": Range(6, 20, whole=True),
}


@validated
class NetworkConfig(LearnerConfig, ABC):
    """Settings of a learner with the scoring network.

    Attributes:
        values_states: Whether a second network values the state.
        acts_by_target: Whether the slow copy of the network acts, an average over the last updates.
    """

    on_rllib: ClassVar[bool] = True
    values_states: ClassVar[bool] = False
    acts_by_target: ClassVar[bool] = False

    window: Count = 12
    """Steps-left is counted exactly only within this many steps of the end."""
    width: Count = 32
    """Units in a hidden layer."""
    layers: Count = 2
    """Hidden layers."""
    batch_size: Count = 512
    """Rows in a minibatch."""
    learning_rate: NonNegative = 3e-3
    """Step size of Adam at the start; it falls linearly to a hundredth of that."""
    max_grad_norm: NonNegative = 10.0
    """Gradients are clipped to this norm."""
    num_learners: CountOrZero = 0
    """Processes of Ray that learn, each a share of every minibatch; 0 learns in this process, and
    only that gives the same weights for the same seed."""


@validated
class OfflineConfig(NetworkConfig, ABC):
    """Settings of a learner with the scoring network that reads logs.

    Attributes:
        values_actions: Whether the learner values actions, and so needs the support of the logs.
    """

    values_actions: ClassVar[bool] = False

    updates: Count = 600
    """Minibatch updates in all, rounded up to fifties."""
    max_rows_in_ram: CountOrZero = 0
    """Most rows in memory; more stream through Ray Data. With 0, rows in memory take at most half
    of the free memory."""

    @classmethod
    def holds(cls, spec: EnvironmentSpec) -> bool:
        """True if candidates have few enough numbers for a network."""
        numbers = (spec.items or spec.num_candidates) * spec.document_size
        few = numbers <= (MOST_ITEM_NUMBERS if spec.items else MOST_CANDIDATE_NUMBERS)
        return few and spec.num_candidates <= MOST_CANDIDATES

    @property
    def iterations(self) -> int:
        """Number of points of a training curve."""
        return -(-self.updates // UPDATES_PER_ITERATION)

    @property
    def holds_out(self) -> bool:
        """True if the held-out episodes are left out of the training."""
        return False

    @abstractmethod
    def algorithm(self, training: dict[str, Any]) -> AlgorithmConfig:
        """RLlib's configuration with these arguments of `training`."""

    def module(self) -> type[ScoringModule]:
        """The class of the network."""
        from slateflow.learners.rllib.scoring_network import ScoringModule

        return ScoringModule

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Train on RLlib."""
        from slateflow.learners.rllib.training import train_on_rllib

        return train_on_rllib(dataset, self, seed, progress, checkpoints)
