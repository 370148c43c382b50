"""Double DQN with replay, RLlib's own, with live users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from slateflow.learners.config import Count, Share
from slateflow.learners.rllib.live_config import LiveConfig
from slateflow.validation import validated

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

UPDATES_PER_POINT = 50
"""Updates of the network between two points of a training curve."""


@validated
class DQNConfig(LiveConfig):
    """Double DQN with replay (van Hasselt et al. 2016), RLlib's own."""

    learner: ClassVar[str] = "dqn"
    acts_by_target: ClassVar[bool] = True

    live_steps: Count = 80_000
    """Most steps with live users, including those of the survey before the learning."""
    batch_size: Count = 256
    """Steps in a minibatch, drawn from all so far."""
    steps: Count = 1
    """Steps that each user takes between two updates of the network."""
    exploration_steps: Count = 20_000
    """Steps in which the share of random actions falls from 1 to `final_epsilon`."""
    final_epsilon: Share = 0.1
    """Share of random actions after `exploration_steps`."""
    target_rate: Share = 0.02
    """Share of the network that the target network takes over at each update (Polyak)."""

    @property
    def round_steps(self) -> int:
        """Steps of all users between two points of a training curve."""
        return UPDATES_PER_POINT * self.users * self.steps

    def algorithm(self, sizes: dict[str, Any]) -> AlgorithmConfig:
        """RLlib's DQN."""
        from ray.rllib.algorithms.dqn import DQNConfig as RLlibDQNConfig
        from ray.rllib.core.rl_module.rl_module import RLModuleSpec

        from slateflow.learners.rllib.live_modules import ExploringQModule

        exploration = {
            "exploration_steps": self.exploration_steps,
            "final_epsilon": self.final_epsilon,
        }
        module = RLModuleSpec(module_class=ExploringQModule, model_config=sizes | exploration)
        return (
            RLlibDQNConfig()
            .training(
                **self.training,
                train_batch_size_per_learner=self.batch_size // max(1, self.num_learners),
                replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": self.live_steps},
                num_steps_sampled_before_learning_starts=self.users * self.steps * 10,
                target_network_update_freq=1,
                tau=self.target_rate,
                double_q=True,
                dueling=False,
                td_error_loss_fn="mse",
            )
            .env_runners(rollout_fragment_length=self.steps)
            .reporting(min_sample_timesteps_per_iteration=self.round_steps)
            .rl_module(rl_module_spec=module)
        )

    def seed_algorithm(self, algorithm: Algorithm, seed: int) -> None:
        """RLlib's buffer takes no seed."""
        algorithm.local_replay_buffer.rng = np.random.default_rng(seed)
