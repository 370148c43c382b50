"""RecSim's own long-term satisfaction as a Gymnasium environment: the reference.

The batched simulator is what the flows use, and this is what it is proven against. Users,
documents and responses are RecSim's unmodified code. Only their random numbers come from explicit
streams: RecSim seeds both of its samplers with 0, whatever its configuration says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from slateflow.environments.batched import observation_space
from slateflow.environments.recsim_import import drawing_from, load_recsim
from slateflow.environments.slates import SlateSpace, distinct, slate_of
from slateflow.environments.spec import DEFAULT_PRESET, LongTermSatisfactionSpec, preset
from slateflow.errors import InputError, unknown

SingleObservation = dict[str, NDArray[Any]]  # user (U,), candidates (N, D), step (1,)

_USER_PARAMETERS = (
    "memory_discount",
    "sensitivity",
    "innovation_stddev",
    "choc_mean",
    "choc_stddev",
    "kale_mean",
    "kale_stddev",
    "time_budget",
)


class RecSimLongTermSatisfaction(gym.Env[SingleObservation, NDArray[Any]]):
    """One user of RecSim's long-term satisfaction.

    Args:
        spec: The world's parameters.
        seed: Where the streams of the first episodes start; None for an unpredictable start.

    Example:
        >>> env = RecSimLongTermSatisfaction(preset("modified-lts-20-2"))
        >>> _, _ = env.reset(seed=1)
        >>> _, reward, terminated, _, info = env.step(np.array([4, 2]))
        >>> info["clicked"], bool(info["watch_time"] == reward), terminated
        (0, True, False)
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self, spec: LongTermSatisfactionSpec, seed: int | Sequence[int] | None = None
    ) -> None:
        self.environment_spec = spec
        self.observation_space = observation_space(spec)
        self.action_space = SlateSpace(spec.num_candidates, spec.slate_size)
        self._over = True
        self._start_world(np.random.SeedSequence(seed))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[SingleObservation, dict[str, Any]]:
        """Meet the next user; with a seed, the first one of a new world."""
        super().reset(seed=seed)
        if seed is not None:
            self._start_world(np.random.SeedSequence(seed))
        _, documents = self._world.reset()
        self._step, self._over = 0, False
        return self._observe(documents), {}

    def step(
        self, action: NDArray[Any]
    ) -> tuple[SingleObservation, float, bool, bool, dict[str, Any]]:
        """Show a slate (K,).

        Returns:
            Observation, reward (unclipped watch time), terminated, truncated, and an info with
            `clicked` (the clicked place, −1 for none) and `watch_time` as RecSim shows it.

        Raises:
            InputError: The action is no slate of distinct candidates.
        """
        if self._over:
            raise ResetNeeded("step(): expected a running episode, got none; call reset() first")
        slate = self._checked(action)
        with drawing_from(self._responses):
            _, documents, responses, terminated = self._world.step(slate)
        self._step += 1
        self._over = terminated
        clicks = [place for place, response in enumerate(responses) if response.clicked]
        watched = sum(responses[place].create_observation()["engagement"] for place in clicks)
        info = {"clicked": clicks[0] if clicks else -1, "watch_time": np.float32(watched)}
        reward = self._recsim.long_term_satisfaction.clicked_engagement_reward(responses)
        return self._observe(documents), float(reward), bool(terminated), False, info

    def render(self) -> None:
        """There is nothing to see; RecSim's own would raise."""

    def _start_world(self, sequence: np.random.SeedSequence) -> None:
        spec, self._recsim = self.environment_spec, load_recsim()
        lts = self._recsim.long_term_satisfaction
        # RecSim calls NumPy's legacy interface, so its streams have to be legacy objects.
        users, documents, self._responses = (
            np.random.RandomState(np.random.MT19937(child)) for child in sequence.spawn(3)
        )
        user_model = lts.LTSUserModel(spec.slate_size, lts.LTSUserState, lts.LTSResponse)
        # RecSim's user model takes no parameters of the user; its sampler does.
        user_model._user_sampler = lts.LTSStaticUserSampler(
            lts.LTSUserState, **{name: getattr(spec, name) for name in _USER_PARAMETERS}
        )
        user_model._user_sampler._rng = users
        document_sampler = lts.LTSDocumentSampler()
        document_sampler._rng = documents
        self._world = self._recsim.environment.Environment(
            user_model,
            document_sampler,
            spec.num_candidates,
            spec.slate_size,
            resample_documents=spec.resample_documents,
        )

    def _checked(self, action: NDArray[Any]) -> NDArray[Any]:
        slate, spec = np.asarray(action), self.environment_spec
        if (
            slate.shape != (spec.slate_size,)
            or slate.dtype.kind not in "iu"
            or not ((slate >= 0) & (slate < spec.num_candidates)).all()
            or not distinct(slate)
        ):
            raise InputError(
                f"action: expected {spec.slate_size} distinct positions below "
                f"{spec.num_candidates}, got {slate.tolist()}"
            )
        return slate

    def _observe(self, documents: Mapping[str, NDArray[np.float64]]) -> SingleObservation:
        # RecSim hides the user's state; what may be seen of it is up to the spec.
        satisfaction = self._world.user_model._user_state.satisfaction
        return {
            "user": np.full(self.environment_spec.user_size, satisfaction, dtype=np.float32),
            "candidates": np.array(list(documents.values()), dtype=np.float32),
            "step": np.array([self._step], dtype=np.int32),
        }


class DiscreteSlates(gym.ActionWrapper[SingleObservation, int, NDArray[Any]]):
    """Actions as numbers of ordered slates, in the order of `itertools.permutations`."""

    def __init__(self, env: gym.Env[SingleObservation, NDArray[Any]]) -> None:
        super().__init__(env)
        spec = env.get_wrapper_attr("environment_spec")
        self._sizes = spec.num_candidates, spec.slate_size
        self.action_space = gym.spaces.Discrete(math.perm(*self._sizes))

    def action(self, action: int) -> NDArray[Any]:
        """The slate of that number."""
        return slate_of(int(action), *self._sizes)


class BanditObservation(gym.ObservationWrapper[SingleObservation, Any, SingleObservation]):
    """Only the candidates, under the name that RLlib's bandits knew them by."""

    def __init__(self, env: gym.Env[SingleObservation, Any]) -> None:
        super().__init__(env)
        whole = observation_space(env.get_wrapper_attr("environment_spec"))
        self.observation_space = gym.spaces.Dict(item=whole["candidates"])

    def observation(self, observation: SingleObservation) -> SingleObservation:
        """The candidates as `item` (N, D)."""
        return {"item": observation["candidates"]}


def make_reference(
    config: Mapping[str, Any], default_preset: str = DEFAULT_PRESET
) -> gym.Env[SingleObservation, Any]:
    """RecSim's environment from the keys that RLlib's RecSim wrapper had.

    Args:
        config: `num_candidates`, `slate_size`, `resample_documents` and every other field of
            the spec; `seed`; `convert_to_discrete_action_space` (see `DiscreteSlates`);
            `wrap_for_bandits` (see `BanditObservation`); and `preset`, where the fields that
            are not given come from. All are optional.
        default_preset: Preset where the config names none.

    Raises:
        InputError: A key does not exist, or a value does not fit.

    Example:
        >>> make_reference({"convert_to_discrete_action_space": True}).action_space
        Discrete(380)
    """
    fields = [field.name for field in dataclasses.fields(LongTermSatisfactionSpec)]
    known = ["preset", "seed", "convert_to_discrete_action_space", "wrap_for_bandits", *fields[1:]]
    for key in config:
        if key not in known:
            raise unknown("config key", key, known)
    overrides = {key: value for key, value in config.items() if key in fields}
    spec = preset(config.get("preset", default_preset), **overrides)
    if not isinstance(spec, LongTermSatisfactionSpec):
        raise InputError(f"preset: expected one of long-term satisfaction, got {spec.name}")
    env: gym.Env[SingleObservation, Any] = RecSimLongTermSatisfaction(spec, _seed(config))
    if _switch(config, "convert_to_discrete_action_space"):
        env = DiscreteSlates(env)
    if _switch(config, "wrap_for_bandits"):
        env = BanditObservation(env)
    return env


def _switch(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise InputError(f"{key}: expected bool, got {value!r}")
    return value


def _seed(config: Mapping[str, Any]) -> Sequence[int] | None:
    seed = config.get("seed")
    if seed is None:
        return None
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed: expected a whole number from 0, got {seed!r}")
    # RLlib gives one config to all of its workers, which should not meet the same users.
    return [seed, getattr(config, "worker_index", 0)]
