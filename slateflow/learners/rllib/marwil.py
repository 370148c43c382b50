"""MARWIL, RLlib's own: imitation weighted by the advantage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from slateflow.learners.config import NonNegative, Share
from slateflow.learners.rllib.network_config import NETWORK_SPACE, OfflineConfig
from slateflow.learners.search_space import OneOf, Range, Space
from slateflow.validation import validated

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


@validated
class MARWILConfig(OfflineConfig):
    """Imitation weighted by the advantage (Wang et al. 2018, eq. 4)."""

    learner: ClassVar[str] = "marwil"
    values_states: ClassVar[bool] = True
    search_space: ClassVar[Space] = {
        **NETWORK_SPACE,
        "updates": OneOf((300, 600, 1200)),
        "beta": Range(0.0, 1.0),
    }

    beta: Share = 1.0
    """Exponent of the advantage, at most 1 for RLlib; 0 is behaviour cloning."""
    value_coefficient: NonNegative = 1.0
    """Weight of the value function's loss."""

    def algorithm(self, training: dict[str, Any]) -> AlgorithmConfig:
        """RLlib's MARWIL with an average squared advantage that follows the data.

        RLlib starts the average at 100 and moves it by 1e-8 with each update: in effect a constant,
        which divides beta by ten.
        """
        from ray.rllib.algorithms.marwil import MARWILConfig as RLlibMARWILConfig

        return RLlibMARWILConfig().training(
            beta=self.beta,
            vf_coeff=self.value_coefficient,
            moving_average_sqd_adv_norm_start=1.0,
            moving_average_sqd_adv_norm_update_rate=0.01,
            **training,
        )
