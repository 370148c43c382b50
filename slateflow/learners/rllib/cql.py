"""Conservative Q-learning for discrete candidates, as an RLlib algorithm.

RLlib's own CQL takes only continuous actions. The target is that of double DQN (van Hasselt et
al. 2016), the penalty that of CQL(H) (Kumar et al. 2020, "Conservative Q-Learning for Offline
Reinforcement Learning", equation 4). The discount is 1: the steps left are in the observation.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.marwil import MARWIL, MARWILConfig
from ray.rllib.core.columns import Columns

from slateflow.learners.rllib.scoring_network import ScoringModule
from slateflow.learners.rllib.target_network import TargetNetworkLearner


class CQLModule(ScoringModule):
    """The scoring network as a Q-function; the loss says which candidates it must rate."""

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {}


class CQLLearner(TargetNetworkLearner):
    """Double DQN with a conservative penalty."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Mean squared TD error plus `conservatism` × (log-sum-exp of Q − Q of the log)."""
        del fwd_out  # empty: see CQLModule
        module: CQLModule = self.module[module_id].unwrapped()
        settings = config.learner_config_dict
        observation, following = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            best = module.score(module.scorer, following).argmax(dim=1)
            future = module.score_one(module.target_scorer, following, best)
            target = batch[Columns.REWARDS] + future * ~batch[Columns.TERMINATEDS]
        if settings["conservatism"] > 0:
            values = module.score(module.scorer, observation)  # (B, N)
            taken = values.gather(1, batch[Columns.ACTIONS][:, None]).squeeze(1)
            penalty = (values.logsumexp(dim=1) - taken).mean()
        else:
            taken = module.score_one(module.scorer, observation, batch[Columns.ACTIONS])
            penalty = torch.zeros(())
        td_error = (taken - target).square().mean()
        self.metrics.log_dict(
            {"td_error": td_error.detach(), "penalty": penalty.detach()}, key=module_id, window=1
        )
        loss: torch.Tensor = td_error + settings["conservatism"] * penalty
        return loss


class CQL(MARWIL):
    """MARWIL's offline training step with another learner."""

    @classmethod
    def get_default_config(cls) -> CQLAlgorithmConfig:
        """The configuration this algorithm is built from."""
        return CQLAlgorithmConfig()


class CQLAlgorithmConfig(MARWILConfig):
    """`learners(learner_config_dict={"conservatism": …, "target_rate": …})`."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or CQL)
        self.beta = 0.0
        self.postprocess_inputs = False

    def get_default_learner_class(self) -> type[CQLLearner]:
        """Double DQN with the penalty."""
        return CQLLearner
