"""Implicit Q-learning for discrete candidates, as an RLlib algorithm.

RLlib's own IQL takes only continuous actions. Kostrikov, Nair and Levine 2021, "Offline
Reinforcement Learning with Implicit Q-Learning": the value of a state is an upper expectile of
the values of what the logs did there, so no action is rated that was never taken. The discount
is 1: the steps left are in the observation.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.marwil import MARWIL, MARWILConfig
from ray.rllib.core.columns import Columns

from slateflow.learners.rllib.scoring_network import ScoringModule
from slateflow.learners.rllib.target_network import TargetNetworkLearner


class IQLModule(ScoringModule):
    """The scoring network as a Q-function, and the value of the state."""

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {}


class IQLLearner(TargetNetworkLearner):
    """Expectile regression for the value, least squares for Q."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Equation 5 for the value plus equation 6 for Q."""
        del fwd_out  # empty: see IQLModule
        module: IQLModule = self.module[module_id].unwrapped()
        observation, following = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        action = batch[Columns.ACTIONS]
        expectile = config.learner_config_dict["expectile"]
        with torch.no_grad():
            logged = module.score_one(module.target_scorer, observation, action)
            future = module.compute_values({Columns.OBS: following})
            target = batch[Columns.REWARDS] + future * ~batch[Columns.TERMINATEDS]
        advantage = logged - module.compute_values(batch)
        value_loss = expectile_loss(advantage, expectile)
        taken = module.score_one(module.scorer, observation, action)
        td_error = (taken - target).square().mean()
        self.metrics.log_dict(
            {"td_error": td_error.detach(), "value_loss": value_loss.detach()},
            key=module_id,
            window=1,
        )
        loss: torch.Tensor = td_error + value_loss
        return loss


def expectile_loss(difference: torch.Tensor, expectile: float) -> torch.Tensor:
    """Mean of |τ − 1(u < 0)| u²."""
    weight = torch.where(difference < 0, 1 - expectile, expectile)
    return (weight * difference.square()).mean()


class IQL(MARWIL):
    """MARWIL's offline training step with another learner."""

    @classmethod
    def get_default_config(cls) -> IQLAlgorithmConfig:
        """The configuration this algorithm is built from."""
        return IQLAlgorithmConfig()


class IQLAlgorithmConfig(MARWILConfig):
    """`learners(learner_config_dict={"expectile": …, "target_rate": …})`."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or IQL)
        self.beta = 0.0
        self.postprocess_inputs = False

    def get_default_learner_class(self) -> type[IQLLearner]:
        """Expectile regression."""
        return IQLLearner
