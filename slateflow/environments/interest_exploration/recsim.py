"""RecSim's own interest exploration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slateflow.environments.interest_exploration.spec import InterestExplorationSpec
from slateflow.environments.recsim_base import RecSimEnvironment


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
        # RecSim's user model takes none of the users' parameters; its sampler does.
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

    def _observed_document(self, document: Any) -> Any:
        topics = len(self.environment_spec.topic_distribution)
        return [document["quality"], *(document["cluster_id"] == topic for topic in range(topics))]
