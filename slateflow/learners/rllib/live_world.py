"""A batched world as RLlib's environment: an action is a candidate, and observations are flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, Observation, batched_environment
from slateflow.errors import InputError
from slateflow.learners.features import FeatureMoments, flat_observation_space, share_of_window_left
from slateflow.policies import RandomPolicy
from slateflow.policies.play import play, seed_of

LIVE_STREAM = 0x11FE
"""Separates live users from those of a dataset or an evaluation with the same seed."""


@dataclass(frozen=True)
class LiveSurvey:
    """Statistics of a random policy before the learning starts.

    Attributes:
        reward_mean: Mean reward of a step.
        reward_scale: Standard deviation of the reward.
        moments: Moments of the features.
        live_steps: Steps that the random policy took.
    """

    reward_mean: float
    reward_scale: float
    moments: FeatureMoments
    live_steps: int


def survey(spec: EnvironmentSpec, episodes: int, seed: int) -> LiveSurvey:
    """Play random slates.

    Rewards are large and nearly constant, some 9.7 per step; with these, PPO never gets past
    "always the most clickbait". Rewards less their mean prefer the same policies, because all
    episodes have the same length.

    Raises:
        InputError: Users of the world choose from the slate.
    """
    if spec.user_chooses:
        raise InputError(
            f"{spec.name}: expected a world whose users click the first place of a slate, got "
            f"{spec.world}, whose users choose; learn it from logs"
        )
    stream = seed_of(np.random.SeedSequence(seed, spawn_key=(LIVE_STREAM,)))
    steps = list(play(batched_environment(spec, episodes), RandomPolicy(spec.slate_size), stream))
    rewards = np.concatenate([step.rewards for step in steps])
    observed = [step.observation for step in steps]
    return LiveSurvey(
        reward_mean=float(rewards.mean()),
        reward_scale=float(rewards.std()) or 1.0,
        moments=FeatureMoments.from_blocks((seen["user"], seen["candidates"]) for seen in observed),
        live_steps=len(rewards),
    )


class LiveWorld(gym.vector.VectorEnv[NDArray[np.float32], NDArray[Any], NDArray[Any]]):
    """Long-term satisfaction for RLlib: the action is the candidate that is shown first.

    Users of this world click the first place, so the other places make no difference.

    Args:
        config: `spec`, the world's parameters; `num_envs`, users in lockstep (B); `window`,
            steps before the end within which steps-left is counted exactly; `reward_mean` and
            `reward_scale`, by which rewards are centred and divided; `seed`.

    Attributes:
        runner: Number of this sampling process; each has users of its own.
    """

    runner = 0

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.num_envs, self.window = config["num_envs"], config["window"]
        self.reward_mean, self.reward_scale = config["reward_mean"], config["reward_scale"]
        self.seed: int | None = config["seed"]
        spec = self.spec_of_world = config["spec"]
        self.world = batched_environment(spec, self.num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}
        self.single_observation_space = flat_observation_space(spec)
        self.single_action_space = gym.spaces.Discrete(spec.num_candidates)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode in every lane, the first time from the instance's own seed."""
        if seed is None and self.seed is not None:
            sequence = np.random.SeedSequence(self.seed, spawn_key=(LIVE_STREAM, self.runner))
            seed, self.seed = seed_of(sequence), None
        observation, _ = self.world.reset(seed=seed)
        return self._flat(observation), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Show the chosen candidates (B,) first, followed by arbitrary others."""
        places = np.arange(self.spec_of_world.slate_size)
        slates = (np.asarray(actions)[:, None] + places) % self.spec_of_world.num_candidates
        observation, rewards, terminated, truncated, _ = self.world.step(slates)
        centred = (rewards - self.reward_mean) / self.reward_scale
        return self._flat(observation), centred, terminated, truncated, {}

    def _flat(self, observation: Observation) -> NDArray[np.float32]:
        left = share_of_window_left(self.spec_of_world, observation["step"], self.window)
        candidates = observation["candidates"].reshape(self.num_envs, -1)
        return np.concatenate([observation["user"], left, candidates], axis=1)
