"""Q-learning from logs for discrete candidates, as an RLlib algorithm.

RLlib's own CQL and IQL take only continuous actions. This is MARWIL's offline training step with a
loss that the learner's file defines, and a slow copy of the network. The discount is 1: the steps
left are in the observation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ray.rllib.algorithms.marwil import MARWIL, MARWILConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.utils import update_target_network

from slateflow.learners.rllib.scoring_network import ScoringModule

Loss = Callable[
    [ScoringModule, dict[str, Any], dict[str, float]], tuple[torch.Tensor, dict[str, torch.Tensor]]
]
"""Function from module, minibatch and settings to the loss and the metrics to log."""


class OfflineQModule(ScoringModule):
    """The scoring network as a Q-function; the loss decides which candidates it rates."""

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {}

    def taken_and_excess(
        self,
        batch: dict[str, Any],
        conservatism: float,
        beside: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values (B,) of the logged actions, and the excess (B,) of a log-sum-exp over them.

        The mean excess is the penalty of CQL(H) (Kumar et al. 2020, "Conservative Q-Learning for
        Offline Reinforcement Learning", equation 4). Where the penalty has no weight, or `beside`
        has no candidates, only the logged actions are rated, and the excess is 0.

        Args:
            batch: Rows.
            conservatism: Weight of the penalty.
            beside: (B, N) candidates in the log-sum-exp beside the logged one; by default all.
        """
        observation, action = batch[Columns.OBS], batch[Columns.ACTIONS]
        if not conservatism or (beside is not None and not beside.any()):
            return self.score_one(self.scorer, observation, action), torch.zeros(())
        values = self.score(self.scorer, observation)  # (B, N)
        taken = values.gather(1, action[:, None]).squeeze(1)
        if beside is not None:
            values = values.masked_fill(~beside.scatter(1, action[:, None], True), -torch.inf)
        return taken, values.logsumexp(dim=1) - taken


class OfflineQLearner(TorchLearner):
    """Minimises `learner_config_dict["loss"]`, and moves the target network after each update.

    RLlib's own learners move their target once per call of `train()`, which may make any number of
    updates.
    """

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Use Adam with RLlib's settings, in one pass over the weights."""
        weights = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(weights, fused=True),
            params=weights,
            lr_or_lr_schedule=config.lr,
        )

    def build(self) -> None:
        """Build the module and its target."""
        super().build()
        self.module[DEFAULT_MODULE_ID].unwrapped().make_target_networks()

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of the learner's file."""
        del fwd_out  # empty: see OfflineQModule
        settings = config.learner_config_dict
        loss, metrics = settings["loss"](self.module[module_id].unwrapped(), batch, settings)
        logged = {name: value.detach() for name, value in metrics.items()}
        self.metrics.log_dict(logged, key=module_id, window=1)
        return loss

    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        result: tuple[Any, Any, Any] = super()._update(batch)
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        tau = self.config.learner_config_dict["target_rate"]
        for main, target in module.get_target_network_pairs():
            update_target_network(main_net=main, target_net=target, tau=tau)
        return result


class OfflineQ(MARWIL):
    """MARWIL's offline training step with another learner."""

    @classmethod
    def get_default_config(cls) -> OfflineQAlgorithmConfig:
        """The configuration from which this algorithm is built."""
        return OfflineQAlgorithmConfig()


class OfflineQAlgorithmConfig(MARWILConfig):
    """Takes `learners(learner_config_dict={"loss": …, "target_rate": …})` and loss settings."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or OfflineQ)
        self.beta = 0.0
        self.postprocess_inputs = False

    def get_default_learner_class(self) -> type[OfflineQLearner]:
        """The learner with the loss."""
        return OfflineQLearner


def offline_q_algorithm(
    loss: Loss, training: dict[str, Any], **settings: float
) -> OfflineQAlgorithmConfig:
    """The configuration of a learner with this loss and its settings."""
    config = OfflineQAlgorithmConfig()
    config.training(**training)
    config.learners(learner_config_dict={"loss": loss, **settings})
    return config
