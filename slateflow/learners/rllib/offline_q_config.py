"""The settings that the learners of Q-functions share. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from slateflow.learners.config import Count, NonNegative, Share
from slateflow.learners.rllib.network_config import OfflineConfig
from slateflow.validation import validated

if TYPE_CHECKING:
    from slateflow.learners.rllib.scoring_network import ScoringModule


@validated
class OfflineQConfig(OfflineConfig):
    """Settings of a learner whose file defines a loss; the slow copy of its network acts."""

    acts_by_target: ClassVar[bool] = True
    values_actions: ClassVar[bool] = True

    width: Count = 64
    """Units in a hidden layer."""
    layers: Count = 1
    """Hidden layers."""
    learning_rate: NonNegative = 1e-2
    """Step size of Adam at the start; it falls linearly to a hundredth of that."""
    target_rate: Share = 0.01
    """Share of the network that the target network takes over at each update (Polyak)."""

    def module(self) -> type[ScoringModule]:
        """The network as a Q-function."""
        from slateflow.learners.rllib.offline_q import OfflineQModule

        return OfflineQModule
