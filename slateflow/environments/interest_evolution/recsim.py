"""RecSim's own interest evolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slateflow.environments.interest_evolution.spec import InterestEvolutionSpec
from slateflow.environments.recsim_base import RecSimEnvironment

_FIXED_BY_RECSIM = ("time_budget", "step_penalty", "user_quality_factor", "user_update_alpha")


class RecSimInterestEvolution(RecSimEnvironment[InterestEvolutionSpec]):
    """One user of RecSim's interest evolution; the reward is the watch time.

    Example:
        >>> from slateflow.environments import preset
        >>> env = RecSimInterestEvolution(preset("interest-evolution"))
        >>> _, _ = env.reset(seed=1)
        >>> _, reward, terminated, _, info = env.step(np.array([4, 2, 0]))
        >>> bool(info["watch_time"] == reward), terminated
        (True, False)
    """

    def _models(self) -> tuple[Any, Any]:
        spec, world = self.environment_spec, self._recsim.interest_evolution
        fixed = {name: getattr(spec, name) for name in _FIXED_BY_RECSIM}

        class User(world.IEvUserState):  # type: ignore[name-defined]
            """RecSim's user, with the parameters that its sampler fixes."""

            NUM_FEATURES = spec.num_features

            def __init__(self, **features: Any) -> None:
                super().__init__(**{**features, **fixed})

        class Video(world.IEvVideo):  # type: ignore[name-defined]
            """RecSim's document, with the spec's number of clusters."""

            NUM_FEATURES = spec.num_features

        user_model = world.IEvUserModel(
            spec.slate_size,
            choice_model_ctor=self._recsim.choice_model.MultinomialProportionalChoiceModel,
            user_state_ctor=User,
            alpha_x_intercept=spec.alpha_x_intercept,
            alpha_y_intercept=spec.alpha_y_intercept,
        )
        # RecSim's user model takes few of the users' parameters; its sampler takes more.
        user_model._user_sampler = world.UtilityModelUserSampler(
            user_ctor=User,
            document_quality_factor=spec.document_quality_factor,
            no_click_mass=spec.no_click_mass,
            min_normalizer=spec.min_normalizer,
        )
        user_model.choice_model = self._recsim.choice_model.MultinomialProportionalChoiceModel(
            {"no_click_mass": spec.no_click_mass, "min_normalizer": spec.min_normalizer}
        )
        document_sampler = world.UtilityModelVideoSampler(
            doc_ctor=Video,
            min_utility=spec.min_utility,
            max_utility=spec.max_utility,
            video_length=spec.video_length,
        )
        return user_model, document_sampler

    def _reward(self, responses: Sequence[Any]) -> float:
        return float(self._recsim.interest_evolution.clicked_watchtime_reward(responses))

    def _response(self, seen: Mapping[str, Any] | None) -> dict[str, np.float32]:
        seen = seen or {"watch_time": 0, "quality": 0, "liked": 0, "cluster_id": -1}
        columns = {name: np.float32(seen[name]) for name in ("watch_time", "quality", "liked")}
        return {**columns, "cluster": np.float32(seen["cluster_id"])}
