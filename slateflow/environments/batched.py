"""The batched simulator: thousands of users in lockstep behind Gymnasium's `VectorEnv`."""

from __future__ import annotations

from typing import Any, TypedDict

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from slateflow.environments import dynamics
from slateflow.environments.slates import SlateSpace, distinct
from slateflow.environments.spec import EnvironmentSpec, LongTermSatisfactionSpec
from slateflow.errors import InputError, unknown


class Observation(TypedDict):
    """What a policy sees of B users."""

    user: NDArray[np.float32]  # (B, U)
    candidates: NDArray[np.float32]  # (B, N, D)
    step: NDArray[np.int32]  # (B, 1), steps taken in this episode


def observation_space(spec: LongTermSatisfactionSpec) -> gym.spaces.Dict:
    """The space of one user's observation; the reference and the batched simulator share it."""
    return gym.spaces.Dict(
        user=gym.spaces.Box(0.0, 1.0, (spec.user_size,), np.float32),
        candidates=gym.spaces.Box(0.0, 1.0, (spec.num_candidates, spec.document_size), np.float32),
        step=gym.spaces.Box(0, spec.horizon, (1,), np.int32),
    )


class BatchedLongTermSatisfaction(gym.vector.VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """Long-term satisfaction for `num_envs` users at once.

    Users, documents and responses have a random stream each, and every step draws the numbers
    of all lanes whatever the slates are. So two policies that are played from the same seed meet
    the same users, the same candidates and the same noise (common random numbers), and what
    happens in one lane never shifts the numbers of another.

    Args:
        spec: The world's parameters.
        num_envs: Users in lockstep (B).

    Example:
        >>> from slateflow.environments import preset
        >>> env = BatchedLongTermSatisfaction(preset("modified-lts-10-1"), num_envs=3)
        >>> observation, _ = env.reset(seed=1)
        >>> observation["candidates"].shape
        (3, 10, 1)
    """

    def __init__(self, spec: LongTermSatisfactionSpec, num_envs: int = 1) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs: expected at least 1, got {num_envs}")
        self.environment_spec = spec
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}
        self.single_observation_space = observation_space(spec)
        self.single_action_space = SlateSpace(spec.num_candidates, spec.slate_size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._step: int | None = None  # before the first reset
        self._exposure: NDArray[np.float64] = np.zeros(num_envs)
        self._satisfaction: NDArray[np.float64] = np.zeros(num_envs)
        self._seed_streams(np.random.SeedSequence())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every lane; without a seed the streams go on."""
        if seed is not None:
            self._seed_streams(np.random.SeedSequence(seed))
        self._start_episodes()
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Show a slate (B, K) to every user.

        Returns:
            Observation, reward (unclipped watch time), terminated, truncated, and infos with
            `clicked` (the clicked place) and the response columns, each (B,). After the last
            step of an episode the next call ignores its actions and resets.

        Raises:
            InputError: The actions are no slates of distinct candidates.
        """
        if self._step is None or self._candidates is None:
            raise ResetNeeded("step(): expected running episodes, got none; call reset() first")
        if self._step == self.environment_spec.time_budget:
            self._start_episodes()
            zeros = np.zeros(self.num_envs)
            none = np.zeros(self.num_envs, dtype=np.bool_)
            return self._observe(), zeros, none, none, {}
        spec, slates = self.environment_spec, self._checked(actions)
        first = np.take_along_axis(self._candidates[:, :, 0], slates[:, :1], axis=1)[:, 0]
        clickbait = first.astype(np.float64)  # RecSim's user always clicks the first place
        noise = self._responses.standard_normal((2, self.num_envs))
        reward = dynamics.watch_time(spec, self._satisfaction, clickbait, noise[0])
        self._exposure = dynamics.next_exposure(spec, self._exposure, clickbait, noise[1])
        self._satisfaction = dynamics.satisfaction(spec, self._exposure)
        self._step += 1
        if spec.resample_documents:
            self._draw_candidates()
        terminated = np.full(self.num_envs, self._step == spec.time_budget)
        infos = {
            "clicked": np.zeros(self.num_envs, dtype=np.int32),
            "watch_time": np.minimum(reward, MAX_WATCH_TIME).astype(np.float32),
        }
        return self._observe(), reward, terminated, np.zeros_like(terminated), infos

    def _checked(self, actions: NDArray[Any]) -> NDArray[Any]:
        slates, spec = np.asarray(actions), self.environment_spec
        if slates.shape == (self.num_envs, spec.slate_size) and slates.dtype.kind in "iu":
            # Seen as unsigned, negative positions are too large as well: one pass instead of two.
            largest = slates.view(f"u{slates.itemsize}").max()
            if largest < spec.num_candidates and distinct(slates):
                return slates
        raise InputError(
            f"actions: expected {self.num_envs} slates of {spec.slate_size} distinct positions "
            f"below {spec.num_candidates}, got {slates.dtype} {slates.shape}: {slates[:3].tolist()}"
        )

    def _seed_streams(self, sequence: np.random.SeedSequence) -> None:
        self._users, self._documents, self._responses = (
            np.random.Generator(np.random.SFC64(child)) for child in sequence.spawn(3)
        )
        self._candidates: NDArray[np.float32] | None = None

    def _start_episodes(self) -> None:
        spec = self.environment_spec
        self._exposure = dynamics.initial_exposure(spec, self._users.random(self.num_envs))
        self._satisfaction = dynamics.satisfaction(spec, self._exposure)
        self._step = 0
        if spec.resample_documents or self._candidates is None:
            self._draw_candidates()

    def _draw_candidates(self) -> None:
        shape = (self.num_envs, self.environment_spec.num_candidates, 1)
        self._candidates = self._documents.random(shape, dtype=np.float32)

    def _observe(self) -> Observation:
        observed = self._satisfaction.astype(np.float32)[:, None]
        assert self._candidates is not None
        return {
            "user": observed[:, : self.environment_spec.user_size],
            "candidates": self._candidates,
            "step": np.full((self.num_envs, 1), self._step, dtype=np.int32),
        }


MAX_WATCH_TIME = 100.0
"""RecSim clips the engagement that it shows, and not the reward."""


def batched_environment(spec: EnvironmentSpec, num_envs: int) -> BatchedLongTermSatisfaction:
    """The batched simulator of a world.

    Raises:
        InputError: There is none for it.
    """
    if not isinstance(spec, LongTermSatisfactionSpec):
        raise unknown("world", spec.world, [LongTermSatisfactionSpec.world])
    return BatchedLongTermSatisfaction(spec, num_envs)
