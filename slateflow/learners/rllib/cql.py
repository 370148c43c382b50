"""Conservative Q-learning for discrete candidates.

The target is that of double DQN (van Hasselt et al. 2016), the penalty that of CQL(H) (Kumar et
al. 2020, "Conservative Q-Learning for Offline Reinforcement Learning", equation 4).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from slateflow.learners.config import Count, NonNegative, Trained
from slateflow.learners.rllib.network_config import NETWORK_SPACE
from slateflow.learners.rllib.offline_q_config import OfflineQConfig
from slateflow.learners.search_space import OneOf, Range, Space
from slateflow.progress import Progress
from slateflow.validation import validated

if TYPE_CHECKING:
    import torch
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from slateflow.learners.rllib.offline_q import OfflineQModule
    from slateflow.trajectories import Dataset


@validated
class CQLConfig(OfflineQConfig):
    """Double DQN on logs with a conservative penalty (Kumar et al. 2020, eq. 4)."""

    learner: ClassVar[str] = "cql"
    search_space: ClassVar[Space] = {
        **NETWORK_SPACE,
        "updates": OneOf((1000, 2000, 3000)),
        "conservatism": Range(1e-5, 1e-1, log=True),
        "target_rate": Range(3e-3, 3e-2, log=True),
    }

    updates: Count = 2000
    """Minibatch updates of each training, rounded up to fifties."""
    restarts: Count = 1
    """Number of trainings, among which held-out episodes choose; 1 trains once, on all episodes,
    which was better than a choice among trainings on four fifths of them."""
    conservatism: NonNegative = 0.001
    """Weight of the penalty on values of actions not taken; with 0 this is double DQN."""

    @property
    def holds_out(self) -> bool:
        """True for several trainings, among which held-out episodes choose."""
        return self.restarts > 1

    def algorithm(self, training: dict[str, Any]) -> AlgorithmConfig:
        """The offline Q-learner with this loss."""
        from slateflow.learners.rllib.offline_q import offline_q_algorithm

        return offline_q_algorithm(
            loss, training, target_rate=self.target_rate, conservatism=self.conservatism
        )

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Train once, or `restarts` times and keep the best."""
        if self.restarts == 1:
            return super().train(dataset, seed, progress, checkpoints)
        from slateflow.learners.rllib.restarts import train_with_restarts

        return train_with_restarts(dataset, self, self.restarts, seed, progress, checkpoints)


def loss(
    module: OfflineQModule, batch: dict[str, Any], settings: dict[str, float]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean squared TD error plus `conservatism` × (log-sum-exp of Q − Q of the log).

    Rows count by their weights; hardly shown candidates are excluded from the next choice.
    """
    import torch
    from ray.rllib.core.columns import Columns

    from slateflow.learners.rllib.input import NEXT_LEFT_OUT, ROW_WEIGHTS

    following, weight = batch[Columns.NEXT_OBS], batch[ROW_WEIGHTS]
    target, ends = batch[Columns.REWARDS], batch[Columns.TERMINATEDS]
    if not ends.all():  # single decisions have no next step
        with torch.no_grad():
            offered = module.score(module.scorer, following)
            best = offered.masked_fill(batch[NEXT_LEFT_OUT], -torch.inf).argmax(dim=1)
            target = target + module.score_one(module.target_scorer, following, best) * ~ends
    taken, excess = module.taken_and_excess(batch, settings["conservatism"])
    penalty = (weight * excess).mean()
    td_error = (weight * (taken - target).square()).mean()
    total: torch.Tensor = td_error + settings["conservatism"] * penalty
    return total, {"td_error": td_error, "penalty": penalty}
