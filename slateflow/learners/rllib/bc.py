"""Behaviour cloning, RLlib's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from slateflow.learners.config import Count, NonNegative
from slateflow.learners.rllib.network_config import NETWORK_SPACE, OfflineConfig
from slateflow.learners.search_space import OneOf, Space
from slateflow.validation import validated

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


@validated
class BCConfig(OfflineConfig):
    """Behaviour cloning, which takes the logs to be right."""

    learner: ClassVar[str] = "bc"
    search_space: ClassVar[Space] = {**NETWORK_SPACE, "updates": OneOf((400, 800, 1600))}

    updates: Count = 800
    """Minibatch updates in all, rounded up to fifties."""
    learning_rate: NonNegative = 1e-2
    """Step size of Adam at the start; it falls linearly to a hundredth of that."""

    def algorithm(self, training: dict[str, Any]) -> AlgorithmConfig:
        """RLlib's BC."""
        from ray.rllib.algorithms.bc import BCConfig as RLlibBCConfig

        return RLlibBCConfig().training(**training)
