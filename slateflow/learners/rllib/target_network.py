"""What the learners of Q-functions share: a slow copy of the network that follows it."""

from __future__ import annotations

from typing import Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.utils import update_target_network


class TargetNetworkLearner(TorchLearner):
    """Moves the target network by `learner_config_dict["target_rate"]` after each update.

    RLlib's own learners with a target move it once for each call of `train()`, which may be any
    number of updates.
    """

    def build(self) -> None:
        """Build the module and its target."""
        super().build()
        self.module[DEFAULT_MODULE_ID].unwrapped().make_target_networks()

    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        result: tuple[Any, Any, Any] = super()._update(batch)
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        tau = self.config.learner_config_dict["target_rate"]
        for main, target in module.get_target_network_pairs():
            update_target_network(main_net=main, target_net=target, tau=tau)
        return result
