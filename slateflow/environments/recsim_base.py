"""The common part of RecSim's worlds behind Gymnasium: streams, slates, ends of episodes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from slateflow.environments.observation import observation_space
from slateflow.environments.recsim_import import drawing_from, load_recsim
from slateflow.environments.slates import SlateSpace
from slateflow.environments.spec import EnvironmentSpec
from slateflow.errors import InputError

SingleObservation = dict[str, NDArray[Any]]  # user (U,), candidates (N, D), step (1,)
Spec = TypeVar("Spec", bound=EnvironmentSpec)


class RecSimEnvironment(gym.Env[SingleObservation, NDArray[Any]], Generic[Spec]):
    """One user of one of RecSim's worlds.

    Args:
        spec: The world's parameters.
        seed: Where the streams of the first episodes start; None for an unpredictable start.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, spec: Spec, seed: int | Sequence[int] | None = None) -> None:
        self.environment_spec = spec
        self.observation_space = observation_space(spec)
        self.action_space = SlateSpace(spec.num_candidates, spec.slate_size)
        self._over = True
        self._start_world(np.random.SeedSequence(seed))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[SingleObservation, dict[str, Any]]:
        """Meet the next user; with a seed, the first user of a new world."""
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
            Observation, reward, terminated, truncated, and an info with `clicked` (the clicked
            place, −1 for none) and the response columns as RecSim shows them.

        Raises:
            InputError: The action is not a slate of distinct candidates.
        """
        if self._over:
            raise ResetNeeded("step(): expected a running episode, got none; call reset() first")
        slate = self._checked(action)
        with drawing_from(self._responses):
            _, documents, responses, terminated = self._world.step(slate)
        self._step += 1
        terminated = bool(terminated)
        truncated = not terminated and self._step >= self.environment_spec.horizon
        self._over = terminated or truncated
        clicks = [place for place, response in enumerate(responses) if response.clicked]
        seen = responses[clicks[0]].create_observation() if clicks else None
        info = {"clicked": clicks[0] if clicks else -1, **self._response(seen)}
        reward = float(self._reward(responses))
        return self._observe(documents), reward, terminated, truncated, info

    def render(self) -> None:
        """Render nothing; RecSim's own method would raise."""

    @abstractmethod
    def _models(self) -> tuple[Any, Any]:
        """RecSim's user model and document sampler; the caller replaces their streams."""

    @abstractmethod
    def _reward(self, responses: Sequence[Any]) -> float:
        """The reward that RecSim's aggregator computes from the responses."""

    @abstractmethod
    def _response(self, seen: Mapping[str, Any] | None) -> dict[str, np.float32]:
        """The response columns, from the observed response of the clicked document, if any."""

    def _observed_user(self) -> NDArray[np.float32]:
        """Observed features of the user (U,), as a copy of RecSim's state, which it changes."""
        return np.array(self._world.user_model.create_observation(), dtype=np.float32)

    def _observed_document(self, document: Any) -> Any:
        """The features (D,) of a candidate, from RecSim's observation of it."""
        return document

    def _start_world(self, sequence: np.random.SeedSequence) -> None:
        spec, self._recsim = self.environment_spec, load_recsim()
        # RecSim calls NumPy's legacy interface, so its streams have to be `RandomState` objects.
        users, documents, self._responses = (
            np.random.RandomState(np.random.MT19937(child)) for child in sequence.spawn(3)
        )
        user_model, document_sampler = self._models()
        user_model._user_sampler._rng = users
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
        if slate.dtype.kind not in "iu" or not self.action_space.contains(slate):
            raise InputError(
                f"action: expected {spec.slate_size} distinct positions below "
                f"{spec.num_candidates}, got {slate.tolist()}"
            )
        return slate

    def _observe(self, documents: Mapping[str, Any]) -> SingleObservation:
        features = [self._observed_document(document) for document in documents.values()]
        return {
            "user": self._observed_user(),
            "candidates": np.array(features, dtype=np.float32),
            "step": np.array([self._step], dtype=np.int32),
        }
