"""RecSim's own long-term satisfaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.long_term_satisfaction.spec import LongTermSatisfactionSpec
from slateflow.environments.recsim_base import RecSimEnvironment
from slateflow.environments.spec import EnvironmentSpec

_OURS = {"satisfaction_observed", *(field.name for field in fields(EnvironmentSpec))}
_USER_PARAMETERS = [
    field.name for field in fields(LongTermSatisfactionSpec) if field.name not in _OURS
]


class RecSimLongTermSatisfaction(RecSimEnvironment[LongTermSatisfactionSpec]):
    """One user of RecSim's long-term satisfaction; the reward is unclipped watch time.

    Example:
        >>> from slateflow.environments import preset
        >>> env = RecSimLongTermSatisfaction(preset("modified-lts-20-2"))
        >>> _, _ = env.reset(seed=1)
        >>> _, reward, terminated, _, info = env.step(np.array([4, 2]))
        >>> info["clicked"], bool(info["watch_time"] == reward), terminated
        (0, True, False)
    """

    def _models(self) -> tuple[Any, Any]:
        spec, lts = self.environment_spec, self._recsim.long_term_satisfaction
        user_model = lts.LTSUserModel(spec.slate_size, lts.LTSUserState, lts.LTSResponse)
        # RecSim's user model takes none of the user's parameters; its sampler does.
        user_model._user_sampler = lts.LTSStaticUserSampler(
            lts.LTSUserState, **{name: getattr(spec, name) for name in _USER_PARAMETERS}
        )
        return user_model, lts.LTSDocumentSampler()

    def _reward(self, responses: Sequence[Any]) -> float:
        aggregate = self._recsim.long_term_satisfaction.clicked_engagement_reward
        return float(aggregate(responses))

    def _response(self, seen: Mapping[str, Any] | None) -> dict[str, np.float32]:
        return {"watch_time": np.float32(seen["engagement"] if seen else 0)}

    def _observed_user(self) -> NDArray[np.float32]:
        # RecSim hides the user's state; the spec decides how much of it is observed.
        satisfaction = self._world.user_model._user_state.satisfaction
        return np.full(self.environment_spec.user_size, satisfaction, dtype=np.float32)
