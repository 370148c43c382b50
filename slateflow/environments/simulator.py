"""Base of the batched simulators: streams, slates, and episodes that end lane by lane."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from slateflow.environments.observation import Observation, observation_space
from slateflow.environments.slates import SlateSpace, all_distinct, at_places
from slateflow.environments.spec import EnvironmentSpec
from slateflow.environments.streams import Streams
from slateflow.errors import InputError

Spec = TypeVar("Spec", bound=EnvironmentSpec)
Lanes = NDArray[np.bool_]  # (B,), mask of lanes
Response = tuple[NDArray[np.float64], Lanes, dict[str, NDArray[Any]]]


class BatchedEnvironment(
    gym.vector.VectorEnv[Observation, NDArray[Any], NDArray[Any]], Generic[Spec]
):
    """A world for `num_envs` users at once.

    Users, candidates and responses each have a random stream. Every step draws the numbers of all
    lanes, including those of users who might follow, whatever the slates are and whichever
    episodes have ended. So two policies played from the same seed meet the same users, candidates
    and noise (common random numbers), and events in one lane never shift the numbers of another.

    Args:
        spec: The world's parameters.
        num_envs: Users in lockstep (B).
        seed: Where the streams of the first episodes start; None for an unpredictable start.
        common_numbers: Whether numbers are also drawn for users who left (`step_without_reset`),
            so that those of the others do not depend on it. Without common numbers sessions of
            unequal length take half the draws, but two policies cannot be compared user by user.

    Attributes:
        lanes: (A,) numbers of the lanes that `step_without_reset` has not emptied.
    """

    # Attributes of subclasses that have one row per lane
    _of_users: ClassVar[tuple[str, ...]]
    _of_documents: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        spec: Spec,
        num_envs: int = 1,
        seed: int | None = None,
        common_numbers: bool = True,
    ) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs: expected at least 1, got {num_envs}")
        self.environment_spec = spec
        self.num_envs = num_envs
        self.lanes = np.arange(num_envs)
        self.common_numbers = common_numbers
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}
        self._candidates: NDArray[np.float32] | None = None
        self._running = False  # before the first reset
        self._steps: NDArray[np.int32] = np.zeros(num_envs, dtype=np.int32)
        self._over: Lanes = np.zeros(num_envs, dtype=np.bool_)
        self._seed_streams([np.random.SeedSequence(seed)])

    # Making Gymnasium's spaces takes longer than playing many users

    @cached_property
    def single_observation_space(self) -> gym.spaces.Dict:  # type: ignore[override]
        """The observation of one user."""
        return observation_space(self.environment_spec)

    @cached_property
    def observation_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """The observations of all users."""
        return batch_space(self.single_observation_space, self.num_envs)

    @cached_property
    def single_action_space(self) -> SlateSpace:  # type: ignore[override]
        """The slates for one user."""
        return SlateSpace(self.environment_spec.num_candidates, self.environment_spec.slate_size)

    @cached_property
    def action_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """The slates for all users."""
        return batch_space(self.single_action_space, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every lane.

        Args:
            seed: Where the streams start; None continues them. Several seeds share the lanes out
                evenly, and each gives its lanes the numbers that it would give them alone.
            options: Ignored.
        """
        if seed is not None:
            seeds = [seed] if isinstance(seed, int | np.integer) else list(seed)
            if not seeds or self.num_envs % len(seeds):
                raise InputError(
                    f"seed: expected a number of seeds that divides {self.num_envs} lanes, "
                    f"got {len(seeds)}"
                )
            self._seed_streams([np.random.SeedSequence(int(one)) for one in seeds])
        elif len(self.lanes) < self.num_envs:
            self._play_on(np.arange(self.num_envs))
            self._candidates = None  # the lanes that left have none any more
        self._start_users(np.ones(self.num_envs, dtype=np.bool_))
        self._steps = np.zeros(self.num_envs, dtype=np.int32)
        self._over = np.zeros(self.num_envs, dtype=np.bool_)
        self._running = True
        if self.environment_spec.resample_documents or self._candidates is None:
            self._draw_candidates()
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Show a slate (B, K) to every user.

        Returns:
            Observation, reward, terminated, truncated, and infos with `clicked` (the clicked
            place, −1 for none) and the response columns, each (B,). The call after the last
            step of a lane's episode ignores the lane's action and resets it: reward and
            response are 0 there, `clicked` is −1. Where it resets every lane, infos are empty.

        Raises:
            InputError: The actions are not slates of distinct candidates.
        """
        over = self._over
        if len(self.lanes) < self.num_envs:
            raise ResetNeeded(
                "step(): expected users in all lanes, got some that left; call reset()"
            )
        slates = self._checked(actions, over)
        rewards, terminated, truncated, responses = self._advance(slates)
        self._start_users(over)
        if over.any():
            self._steps[over] = 0
            rewards = np.where(over, 0.0, rewards)
            terminated, truncated = terminated & ~over, truncated & ~over
            for name, values in responses.items():
                blank = values.dtype.type(-1 if name == "clicked" else 0)
                responses[name] = np.where(over, blank, values)
        self._over = terminated | truncated
        if self.environment_spec.resample_documents:
            self._draw_candidates()
        return self._observe(), rewards, terminated, truncated, {} if over.all() else responses

    def step_without_reset(
        self, slates: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], Lanes, Lanes, dict[str, NDArray[Any]]]:
        """Show a slate (A, K) to the users who are left; users leave when their episode ends.

        They are not replaced, and empty lanes take no time. The observation covers users who stay;
        rewards, ends and responses cover all who were shown a slate.

        Raises:
            InputError: The actions are not slates of distinct candidates.
        """
        slates = self._checked(slates, np.zeros(len(self.lanes), dtype=np.bool_))
        rewards, terminated, truncated, responses = self._advance(slates)
        over = terminated | truncated
        if over.any():
            self._leave(np.flatnonzero(~over))
        if self.environment_spec.resample_documents:
            self._draw_candidates()
        return self._observe(), rewards, terminated, truncated, responses

    def _advance(
        self, slates: NDArray[Any]
    ) -> tuple[NDArray[np.float64], Lanes, Lanes, dict[str, NDArray[Any]]]:
        self._steps = self._steps + np.int32(1)
        rewards, terminated, responses = self._respond(slates)
        truncated = (self._steps >= self.environment_spec.horizon) & ~terminated
        return rewards, terminated, truncated, responses

    def _leave(self, stay: NDArray[np.intp]) -> None:
        kept = () if self.environment_spec.resample_documents else self._of_documents
        for name in ("_steps", *self._of_users, *kept):
            setattr(self, name, getattr(self, name).take(stay, axis=0))
        self._play_on(self.lanes[stay])

    def _play_on(self, lanes: NDArray[np.intp]) -> None:
        self.lanes = lanes
        for streams in (self._users, self._documents, self._responses):
            streams.keep(lanes)

    @abstractmethod
    def _start_users(self, lanes: Lanes) -> None:
        """Draw a new user for every lane; only those in `lanes` (B,) begin."""

    @abstractmethod
    def _draw_candidates(self) -> None:
        """Draw the candidates of every lane; their features become `self._candidates`."""

    @abstractmethod
    def _respond(self, slates: NDArray[Any]) -> Response:
        """Rewards, who leaves, `clicked` and the response columns; advances the users' state."""

    @abstractmethod
    def _observed_users(self) -> NDArray[np.float32]:
        """Observed features (B, U) of the users, in a new array."""

    @property
    def logged_candidates(self) -> NDArray[Any]:
        """The candidates as logs hold them: features (A, N, D), or items (A, N) of a catalogue."""
        assert self._candidates is not None
        return self._candidates

    def _checked(self, actions: NDArray[Any], over: Lanes) -> NDArray[Any]:
        if not self._running:
            raise ResetNeeded("step(): expected running episodes, got none; call reset() first")
        slates, spec = np.asarray(actions), self.environment_spec
        if slates.shape == (len(self.lanes), spec.slate_size) and slates.dtype.kind in "iu":
            if over.any():  # ignored values may be anything
                slates = np.where(over[:, None], np.arange(spec.slate_size), slates)
            # As unsigned numbers, negative positions are too large as well: one pass, not two.
            largest = slates.view(f"u{slates.itemsize}").max()
            if largest < spec.num_candidates and all_distinct(slates):
                return slates
        raise InputError(
            f"actions: expected {len(self.lanes)} slates of {spec.slate_size} distinct positions "
            f"below {spec.num_candidates}, got {slates.dtype} {slates.shape}: {slates[:3].tolist()}"
        )

    def _seed_streams(self, sequences: Sequence[np.random.SeedSequence]) -> None:
        children = zip(*(sequence.spawn(3) for sequence in sequences), strict=True)
        self._users, self._documents, self._responses = (
            Streams(
                [np.random.Generator(np.random.SFC64(child)) for child in group],
                self.num_envs,
                self.common_numbers,
            )
            for group in children
        )
        self.lanes = np.arange(self.num_envs)
        self._candidates = None

    def _observe(self) -> Observation:
        assert self._candidates is not None
        return {
            "user": self._observed_users(),
            "candidates": self._candidates,
            "step": self._steps[:, None].copy(),
        }


def one_hot(categories: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    """Indicators (..., C) of categories (...).

    Example:
        >>> one_hot(np.array([1, 0]), 3).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    taken = np.empty((*categories.shape, count), np.float32)
    # `out` and mode="clip" skip `take`'s check of bounds, which rows of `eye` do not need
    rows = np.eye(count, dtype=np.float32)
    rows.take(np.asarray(categories, np.intp), axis=0, out=taken, mode="clip")
    return taken


def at_click(
    shown: NDArray[np.number], clicked: NDArray[np.int32], none: float
) -> NDArray[np.float32]:
    """Entries (B,) of (B, K) at the clicked place; `none` where nothing was clicked."""
    chosen = at_places(shown, np.maximum(clicked, 0)[:, None])[:, 0]
    return np.where(clicked >= 0, chosen, none).astype(np.float32)
