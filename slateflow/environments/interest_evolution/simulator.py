"""Interest evolution for many users at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.interest_evolution import dynamics
from slateflow.environments.interest_evolution.spec import InterestEvolutionSpec
from slateflow.environments.simulator import BatchedEnvironment, Lanes, Response, one_hot
from slateflow.environments.slates import at_places


class BatchedInterestEvolution(BatchedEnvironment[InterestEvolutionSpec]):
    """Interest evolution for `num_envs` users at once; the reward is the watch time.

    Sessions end when their time is used up, each at a step of its own. The response describes the
    clicked document: without a click it is 0, and `cluster` −1. `liked` is always 0 in RecSim.

    Example:
        >>> from slateflow.environments import preset
        >>> env = BatchedInterestEvolution(preset("interest-evolution"), num_envs=3)
        >>> observation, _ = env.reset(seed=1)
        >>> observation["user"].shape, observation["candidates"].shape
        ((3, 20), (3, 10, 20))
    """

    _of_users = ("_interests", "_budget")
    _of_documents = ("_candidates", "_clusters", "_quality_noise")

    def _start_users(self, lanes: Lanes) -> None:
        spec = self.environment_spec
        uniform = self._users.random((self.num_envs, spec.num_features))
        interests = dynamics.initial_interests(uniform)
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
    def logged_candidates(self) -> NDArray[np.int16]:
        """Clusters (A, N), each an item of the catalogue."""
        return self._clusters

    def _respond(self, slates: NDArray[Any]) -> Response:
        spec, lanes = self.environment_spec, np.arange(len(self.lanes))
        uniform = self._responses.random((2, len(lanes)), lanes_last=True)
        clusters = at_places(self._clusters, slates)
        clicked = dynamics.clicked_place(spec, self._interests, clusters, uniform[0])
        any_click = clicked >= 0
        document = at_places(slates, np.maximum(clicked, 0)[:, None])[:, 0]
        cluster = self._clusters[lanes, document]
        # Where no document is offered twice, the noise of the one that shows its quality will do
        noise = (
            self._responses.standard_normal(len(lanes))
            if spec.resample_documents
            else self._quality_noise[lanes, document]
        )
        quality = dynamics.quality(spec, cluster, noise)
        interest = self._interests[lanes, cluster]
        watched = np.where(any_click, dynamics.watch_time(spec, self._budget), 0.0)
        self._budget = dynamics.next_budget(spec, self._budget, any_click, interest, quality)
        moved = dynamics.next_interest(spec, interest, uniform[1])
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
