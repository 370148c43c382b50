"""The batched simulators: thousands of users in lockstep behind Gymnasium's `VectorEnv`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import dynamics
from slateflow.environments import interest_evolution as evolution
from slateflow.environments import interest_exploration as exploration
from slateflow.environments.batched_base import (
    BatchedEnvironment,
    Lanes,
    Response,
    at_click,
    one_hot,
)
from slateflow.environments.interest_specs import InterestEvolutionSpec, InterestExplorationSpec
from slateflow.environments.slates import at_places
from slateflow.environments.spec import EnvironmentSpec, LongTermSatisfactionSpec
from slateflow.errors import unknown

MAX_WATCH_TIME = 100.0
"""RecSim's long-term satisfaction clips the engagement that it shows, and not the reward."""


class BatchedLongTermSatisfaction(BatchedEnvironment[LongTermSatisfactionSpec]):
    """Long-term satisfaction for `num_envs` users at once; the reward is unclipped watch time.

    Example:
        >>> from slateflow.environments import preset
        >>> env = BatchedLongTermSatisfaction(preset("modified-lts-10-1"), num_envs=3)
        >>> observation, _ = env.reset(seed=1)
        >>> observation["candidates"].shape
        (3, 10, 1)
    """

    _of_users = ("_exposure", "_satisfaction")
    _of_documents = ("_candidates",)

    def _welcome(self, lanes: Lanes) -> None:
        spec = self.environment_spec
        exposure = dynamics.initial_exposure(spec, self._users.random(self.num_envs))
        if lanes.all():  # here all episodes are of one length
            self._exposure = exposure
            self._satisfaction = dynamics.satisfaction(spec, exposure)

    def _draw_candidates(self) -> None:
        shape = (len(self.lanes), self.environment_spec.num_candidates, 1)
        self._candidates = self._documents.random(shape, dtype=np.float32)

    def _respond(self, slates: NDArray[Any]) -> Response:
        spec, candidates = self.environment_spec, self._candidates
        assert candidates is not None
        first = at_places(candidates[:, :, 0], slates[:, :1])[:, 0]
        clickbait = first.astype(np.float64)  # RecSim's user always clicks the first place
        noise = self._responses.standard_normal((2, len(self.lanes)), lanes_last=True)
        reward = dynamics.watch_time(spec, self._satisfaction, clickbait, noise[0])
        self._exposure = dynamics.next_exposure(spec, self._exposure, clickbait, noise[1])
        self._satisfaction = dynamics.satisfaction(spec, self._exposure)
        responses = {
            "clicked": np.zeros(len(self.lanes), dtype=np.int32),
            "watch_time": np.minimum(reward, MAX_WATCH_TIME).astype(np.float32),
        }
        return reward, self._steps == spec.time_budget, responses

    def _observed_users(self) -> NDArray[np.float32]:
        observed = self._satisfaction.astype(np.float32)[:, None]
        return observed[:, : self.environment_spec.user_size]


class BatchedInterestExploration(BatchedEnvironment[InterestExplorationSpec]):
    """Interest exploration for `num_envs` users at once; the reward is 1 for a click.

    The response is that of the clicked document: without a click `quality` is 0, `cluster` −1.

    Example:
        >>> from slateflow.environments import preset
        >>> env = BatchedInterestExploration(preset("interest-exploration"), num_envs=3)
        >>> observation, _ = env.reset(seed=1)
        >>> observation["user"].shape, observation["candidates"].shape
        ((3, 0), (3, 10, 3))
    """

    _of_users = ("_affinities",)
    _of_documents = ("_candidates", "_topics", "_quality")

    def _welcome(self, lanes: Lanes) -> None:
        spec = self.environment_spec
        uniform = self._users.random(self.num_envs)
        normal = self._users.standard_normal((self.num_envs, len(spec.topic_distribution)))
        if lanes.all():  # here all episodes are of one length
            self._affinities = exploration.user_affinities(spec, uniform, normal)

    def _draw_candidates(self) -> None:
        spec, shape = self.environment_spec, (len(self.lanes), self.environment_spec.num_candidates)
        uniform, normal = self._documents.random(shape), self._documents.standard_normal(shape)
        self._topics, self._quality = exploration.documents(spec, uniform, normal)
        self._candidates = np.empty((*shape, spec.document_size), np.float32)
        self._candidates[:, :, 0] = self._quality
        self._candidates[:, :, 1:] = one_hot(self._topics, len(spec.topic_distribution))

    def _respond(self, slates: NDArray[Any]) -> Response:
        topics = at_places(self._topics, slates)
        quality = at_places(self._quality, slates)
        clicked = exploration.clicked_place(
            self.environment_spec,
            self._affinities,
            topics,
            quality,
            self._responses.random(len(self.lanes)),
        )
        responses = {
            "clicked": clicked,
            "quality": at_click(quality, clicked, none=0),
            "cluster": at_click(topics, clicked, none=-1),
        }
        stays = np.zeros(len(self.lanes), dtype=np.bool_)  # RecSim's users never leave
        return (clicked >= 0).astype(np.float64), stays, responses

    def _observed_users(self) -> NDArray[np.float32]:
        return np.zeros((len(self.lanes), 0), dtype=np.float32)


class BatchedInterestEvolution(BatchedEnvironment[InterestEvolutionSpec]):
    """Interest evolution for `num_envs` users at once; the reward is the watch time.

    Sessions end when their time is used up, each at a step of its own. The response is that of
    the clicked document: without a click it is 0, and `cluster` −1. `liked` is always 0 in RecSim.

    Example:
        >>> from slateflow.environments import preset
        >>> env = BatchedInterestEvolution(preset("interest-evolution"), num_envs=3)
        >>> observation, _ = env.reset(seed=1)
        >>> observation["user"].shape, observation["candidates"].shape
        ((3, 20), (3, 10, 20))
    """

    _of_users = ("_interests", "_budget")
    _of_documents = ("_candidates", "_clusters", "_quality_noise")

    def _welcome(self, lanes: Lanes) -> None:
        spec = self.environment_spec
        uniform = self._users.random((self.num_envs, spec.num_features))
        interests = evolution.initial_interests(uniform)
        if lanes.all():
            self._interests = interests
            self._budget = np.full(self.num_envs, float(spec.time_budget))
        elif lanes.any():
            self._interests = np.where(lanes[:, None], interests, self._interests)
            self._budget = np.where(lanes, spec.time_budget, self._budget)

    def _draw_candidates(self) -> None:
        spec, shape = self.environment_spec, (len(self.lanes), self.environment_spec.num_candidates)
        self._clusters = self._documents.integers(0, spec.num_features, shape, np.int16)
        self._candidates = one_hot(self._clusters, spec.num_features)
        if not spec.resample_documents:
            self._quality_noise = self._documents.standard_normal(shape)

    @property
    def documents(self) -> NDArray[Any]:
        """Clusters (A, N)."""
        return self._clusters

    def features(self, documents: NDArray[Any]) -> NDArray[np.bool_]:
        """Clusters (R, N), one-hot."""
        return one_hot(documents, self.environment_spec.num_features, np.bool_)

    def _respond(self, slates: NDArray[Any]) -> Response:
        spec, lanes = self.environment_spec, np.arange(len(self.lanes))
        uniform = self._responses.random((2, len(lanes)), lanes_last=True)
        clusters = at_places(self._clusters, slates)
        clicked = evolution.clicked_place(spec, self._interests, clusters, uniform[0])
        any_click = clicked >= 0
        document = at_places(slates, np.maximum(clicked, 0)[:, None])[:, 0]
        cluster = self._clusters[lanes, document]
        # Where no document is offered twice, the noise of the one that shows its quality will do
        noise = (
            self._responses.standard_normal(len(lanes))
            if spec.resample_documents
            else self._quality_noise[lanes, document]
        )
        quality = evolution.quality(spec, cluster, noise)
        interest = self._interests[lanes, cluster]
        watched = np.where(any_click, evolution.watch_time(spec, self._budget), 0.0)
        self._budget = evolution.next_budget(spec, self._budget, any_click, interest, quality)
        moved = evolution.next_interest(spec, interest, uniform[1])
        self._interests[lanes, cluster] = np.where(any_click, moved, interest)
        responses = {
            "clicked": clicked,
            "watch_time": watched.astype(np.float32),
            "quality": np.where(any_click, quality, 0).astype(np.float32),
            "liked": np.zeros(len(lanes), dtype=np.float32),
            "cluster": np.where(any_click, cluster, -1).astype(np.float32),
        }
        return watched, self._budget <= 0, responses

    def _observed_users(self) -> NDArray[np.float32]:
        return self._interests.astype(np.float32)


def batched_environment(
    spec: EnvironmentSpec, num_envs: int, seed: int | None = None, common_numbers: bool = True
) -> BatchedEnvironment[Any]:
    """The batched simulator of a world; the arguments are those of `BatchedEnvironment`.

    Raises:
        InputError: There is none for it.
    """
    match spec:
        case LongTermSatisfactionSpec():
            return BatchedLongTermSatisfaction(spec, num_envs, seed, common_numbers)
        case InterestEvolutionSpec():
            return BatchedInterestEvolution(spec, num_envs, seed, common_numbers)
        case InterestExplorationSpec():
            return BatchedInterestExploration(spec, num_envs, seed, common_numbers)
    raise unknown("world", spec.world, WORLDS)


WORLDS = [
    kind.world
    for kind in (LongTermSatisfactionSpec, InterestEvolutionSpec, InterestExplorationSpec)
]
