"""RecSim's own worlds as Gymnasium environments: the reference.

The batched simulators are what the flows use, and these are what they are proven against. Users,
documents and responses are RecSim's unmodified code. Only their random numbers come from explicit
streams: RecSim seeds both of its samplers alike, some with 0 whatever its configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.batched import WORLDS
from slateflow.environments.interest_specs import InterestEvolutionSpec, InterestExplorationSpec
from slateflow.environments.recsim_base import RecSimEnvironment
from slateflow.environments.spec import EnvironmentSpec, LongTermSatisfactionSpec
from slateflow.errors import unknown

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

_FIXED_BY_RECSIM = ("time_budget", "step_penalty", "user_quality_factor", "user_update_alpha")


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
        # RecSim's user model takes no parameters of the user; its sampler does.
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
        # RecSim hides the user's state; what may be seen of it is up to the spec.
        satisfaction = self._world.user_model._user_state.satisfaction
        return np.full(self.environment_spec.user_size, satisfaction, dtype=np.float32)


class RecSimInterestExploration(RecSimEnvironment[InterestExplorationSpec]):
    """One user of RecSim's interest exploration; the reward is 1 for a click.

    Example:
        >>> from slateflow.environments import preset
        >>> env = RecSimInterestExploration(preset("interest-exploration"))
        >>> _, _ = env.reset(seed=1)
        >>> _, reward, _, _, info = env.step(np.array([4, 2, 0]))
        >>> reward == (info["clicked"] >= 0)
        True
    """

    def _models(self) -> tuple[Any, Any]:
        spec, world = self.environment_spec, self._recsim.interest_exploration
        user_model = world.IEUserModel(
            spec.slate_size,
            no_click_mass=spec.no_click_mass,
            user_state_ctor=world.IEUserState,
            response_model_ctor=world.IEResponse,
        )
        # RecSim's user model takes no parameters of the users; its sampler does.
        user_model._user_sampler = world.IEClusterUserSampler(
            user_type_distribution=spec.user_type_distribution,
            user_document_mean_affinity_matrix=spec.user_document_mean_affinity_matrix,
            user_document_stddev_affinity_matrix=spec.user_document_stddev_affinity_matrix,
            user_ctor=world.IEUserState,
        )
        document_sampler = world.IETopicDocumentSampler(
            topic_distribution=spec.topic_distribution,
            topic_quality_mean=spec.topic_quality_mean,
            topic_quality_stddev=spec.topic_quality_stddev,
        )
        return user_model, document_sampler

    def _reward(self, responses: Sequence[Any]) -> float:
        return float(self._recsim.interest_exploration.total_clicks_reward(responses))

    def _response(self, seen: Mapping[str, Any] | None) -> dict[str, np.float32]:
        seen = seen or {"quality": 0, "cluster_id": -1}
        return {"quality": np.float32(seen["quality"]), "cluster": np.float32(seen["cluster_id"])}

    def _observed_user(self) -> NDArray[np.float32]:
        return np.array(self._world.user_model.create_observation(), dtype=np.float32)

    def _observed_document(self, document: Any) -> Any:
        topics = len(self.environment_spec.topic_distribution)
        return [document["quality"], *(document["cluster_id"] == topic for topic in range(topics))]


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
            """RecSim's document, with that many clusters."""

            NUM_FEATURES = spec.num_features

        user_model = world.IEvUserModel(
            spec.slate_size,
            choice_model_ctor=self._recsim.choice_model.MultinomialProportionalChoiceModel,
            user_state_ctor=User,
            alpha_x_intercept=spec.alpha_x_intercept,
            alpha_y_intercept=spec.alpha_y_intercept,
        )
        # RecSim's user model takes few parameters of the users; its sampler takes more.
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

    def _observed_user(self) -> NDArray[np.float32]:
        # RecSim hands out its live state and changes it in place; this is a copy.
        return np.array(self._world.user_model.create_observation(), dtype=np.float32)


def recsim_environment(
    spec: EnvironmentSpec, seed: int | Sequence[int] | None = None
) -> RecSimEnvironment[Any]:
    """RecSim's own environment of a world.

    Raises:
        InputError: RecSim has none.
    """
    match spec:
        case LongTermSatisfactionSpec():
            return RecSimLongTermSatisfaction(spec, seed)
        case InterestEvolutionSpec():
            return RecSimInterestEvolution(spec, seed)
        case InterestExplorationSpec():
            return RecSimInterestExploration(spec, seed)
    raise unknown("world", spec.world, WORLDS)
