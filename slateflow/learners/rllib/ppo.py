"""Proximal policy optimisation, RLlib's own, with live users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from slateflow.learners.config import Count, NonNegative, Share
from slateflow.learners.rllib.live_config import LiveConfig
from slateflow.validation import validated

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


@validated
class PPOConfig(LiveConfig):
    """Proximal policy optimisation (Schulman et al. 2017, eq. 7), RLlib's own."""

    learner: ClassVar[str] = "ppo"
    values_states: ClassVar[bool] = True

    epochs: Count = 8
    """Passes over the steps of each round."""
    clip: Share = 0.2
    """Bound on the change of an action's probability in a round."""
    batch_size: Count = 1024
    """Steps in a minibatch."""
    trace: Share = 0.8
    """λ of the advantage estimate (Schulman et al. 2016, eq. 16)."""
    entropy: NonNegative = 0.01
    """Weight of the entropy at the start; it falls linearly to 0."""

    def algorithm(self, sizes: dict[str, Any]) -> AlgorithmConfig:
        """RLlib's PPO."""
        from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPOConfig
        from ray.rllib.core.rl_module.rl_module import RLModuleSpec

        from slateflow.learners.rllib.live_modules import PolicyModule

        learners = max(1, self.num_learners)
        return (
            RLlibPPOConfig()
            .training(
                **self.training,
                lambda_=self.trace,
                train_batch_size_per_learner=self.round_steps // learners,
                minibatch_size=min(self.batch_size, self.round_steps) // learners,
                num_epochs=self.epochs,
                clip_param=self.clip,
                entropy_coeff=[[0, self.entropy], [self.live_steps, 0.0]],
                use_kl_loss=False,
                vf_clip_param=float("inf"),
            )
            .env_runners(rollout_fragment_length=self.steps)
            .rl_module(rl_module_spec=RLModuleSpec(module_class=PolicyModule, model_config=sizes))
        )
