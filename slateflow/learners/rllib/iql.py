"""Implicit Q-learning for discrete candidates.

Kostrikov, Nair and Levine 2021, "Offline Reinforcement Learning with Implicit Q-Learning": the
value of a state is an upper expectile of the values of the logged actions there, so actions that
were never taken are not rated. But the policy takes the best Q of all candidates, so the penalty of
conservative Q-learning lowers those that the logs rarely show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from slateflow.learners.config import Count, NonNegative, Share
from slateflow.learners.rllib.network_config import NETWORK_SPACE
from slateflow.learners.rllib.offline_q_config import OfflineQConfig
from slateflow.learners.search_space import OneOf, Range, Space
from slateflow.validation import validated

if TYPE_CHECKING:
    import torch
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from slateflow.learners.rllib.offline_q import OfflineQModule


@validated
class IQLConfig(OfflineQConfig):
    """Implicit Q-learning (Kostrikov et al. 2021, eq. 5 and 6), acting by the best Q."""

    learner: ClassVar[str] = "iql"
    values_states: ClassVar[bool] = True
    search_space: ClassVar[Space] = {
        **NETWORK_SPACE,
        "updates": OneOf((1000, 2000, 3000)),
        "expectile": Range(0.8, 0.99),
        "conservatism": Range(1e-4, 1e-1, log=True),
        "target_rate": Range(3e-3, 3e-2, log=True),
    }

    batch_size: Count = 1024
    """Rows in a minibatch."""
    updates: Count = 2000
    """Minibatch updates in all, rounded up to fifties."""
    expectile: Share = 0.95
    """Expectile of the logged actions' values that is a state's value; 0.5 is their mean."""
    conservatism: NonNegative = 0.03
    """Weight of the penalty on values of candidates that the logs rarely show."""

    def algorithm(self, training: dict[str, Any]) -> AlgorithmConfig:
        """The offline Q-learner with this loss."""
        from slateflow.learners.rllib.offline_q import offline_q_algorithm

        return offline_q_algorithm(
            loss,
            training,
            target_rate=self.target_rate,
            expectile=self.expectile,
            conservatism=self.conservatism,
        )


def loss(
    module: OfflineQModule, batch: dict[str, Any], settings: dict[str, float]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Equation 5 for the value, equation 6 for Q, and `conservatism` × the penalty on Q."""
    import torch
    from ray.rllib.core.columns import Columns

    from slateflow.learners.rllib.input import RARE_COLUMN

    observation, following = batch[Columns.OBS], batch[Columns.NEXT_OBS]
    action = batch[Columns.ACTIONS]
    with torch.no_grad():
        logged = module.score_one(module.target_scorer, observation, action)
        future = module.compute_values({Columns.OBS: following})
        target = batch[Columns.REWARDS] + future * ~batch[Columns.TERMINATEDS]
    advantage = logged - module.compute_values(batch)
    value_loss = expectile_loss(advantage, settings["expectile"]).mean()
    taken, excess = module.taken_and_excess(batch, settings["conservatism"], batch[RARE_COLUMN])
    td_error, penalty = (taken - target).square().mean(), excess.mean()
    total: torch.Tensor = td_error + value_loss + settings["conservatism"] * penalty
    return total, {"td_error": td_error, "value_loss": value_loss, "penalty": penalty}


def expectile_loss(difference: torch.Tensor, expectile: float) -> torch.Tensor:
    """(B,) |τ − 1(u < 0)| u² of differences u (B,), with the expectile τ."""
    return ((difference < 0) * (1 - 2 * expectile) + expectile) * difference.square()
