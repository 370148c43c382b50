"""Long-term satisfaction for many users at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.long_term_satisfaction import dynamics
from slateflow.environments.long_term_satisfaction.spec import LongTermSatisfactionSpec
from slateflow.environments.simulator import BatchedEnvironment, Lanes, Response
from slateflow.environments.slates import at_places


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

    @property
    def exposure(self) -> dynamics.Floats:
        """Net positive exposure (A,) of the users who still play; observations hide it."""
        return self._exposure

    def _start_users(self, lanes: Lanes) -> None:
        spec = self.environment_spec
        exposure = dynamics.initial_exposure(spec, self._users.random(self.num_envs))
        if lanes.all():  # in this world all episodes have the same length
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
            "watch_time": np.minimum(reward, dynamics.MAX_WATCH_TIME).astype(np.float32),
        }
        return reward, self._steps == spec.time_budget, responses

    def _observed_users(self) -> NDArray[np.float32]:
        observed = self._satisfaction.astype(np.float32)[:, None]
        return observed[:, : self.environment_spec.user_size]
