"""Interest exploration for many users at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.interest_exploration import dynamics
from slateflow.environments.interest_exploration.spec import InterestExplorationSpec
from slateflow.environments.simulator import BatchedEnvironment, Lanes, Response, at_click, one_hot
from slateflow.environments.slates import at_places


class BatchedInterestExploration(BatchedEnvironment[InterestExplorationSpec]):
    """Interest exploration for `num_envs` users at once; the reward is 1 for a click.

    The response describes the clicked document: without a click `quality` is 0, `cluster` −1.

    Example:
        >>> from slateflow.environments import preset
        >>> env = BatchedInterestExploration(preset("interest-exploration"), num_envs=3)
        >>> observation, _ = env.reset(seed=1)
        >>> observation["user"].shape, observation["candidates"].shape
        ((3, 0), (3, 10, 3))
    """

    _of_users = ("_affinities",)
    _of_documents = ("_candidates", "_topics", "_quality")

    def _start_users(self, lanes: Lanes) -> None:
        spec = self.environment_spec
        uniform = self._users.random(self.num_envs)
        normal = self._users.standard_normal((self.num_envs, len(spec.topic_distribution)))
        if lanes.all():  # in this world all episodes have the same length
            self._affinities = dynamics.user_affinities(spec, uniform, normal)

    def _draw_candidates(self) -> None:
        spec, shape = self.environment_spec, (len(self.lanes), self.environment_spec.num_candidates)
        uniform, normal = self._documents.random(shape), self._documents.standard_normal(shape)
        self._topics, self._quality = dynamics.documents(spec, uniform, normal)
        self._candidates = np.empty((*shape, spec.document_size), np.float32)
        self._candidates[:, :, 0] = self._quality
        self._candidates[:, :, 1:] = one_hot(self._topics, len(spec.topic_distribution))

    def _respond(self, slates: NDArray[Any]) -> Response:
        topics = at_places(self._topics, slates)
        quality = at_places(self._quality, slates)
        clicked = dynamics.clicked_place(
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
