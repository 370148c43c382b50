"""The parameters of interest evolution."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slateflow.environments.spec import EnvironmentSpec, Steps
from slateflow.errors import InputError
from slateflow.validation import validated

Positive = Annotated[float, Field(gt=0)]

MOST_CLUSTERS = 32_760
"""Most clusters that 16-bit numbers distinguish."""


@validated
class InterestEvolutionSpec(EnvironmentSpec):
    """RecSim's interest evolution: likes of now cost session time, good documents give some.

    Field names and defaults are those of RecSim's `UtilityModelUserSampler`, `IEvUserModel` and
    `UtilityModelVideoSampler`, which fix some of them in their code. Without a field are the
    parameters of other choice models (`score_scaling`, `attention_prob`) and the deviation of
    quality within a cluster, a constant of RecSim's. Only `step_limit` is ours.
    """

    world: ClassVar[str] = "interest_evolution"
    response_columns: ClassVar[tuple[str, ...]] = ("watch_time", "quality", "liked", "cluster")
    user_bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)  # from disgust to interest

    # Clusters of documents, and interests of a user
    num_features: Annotated[int, Field(ge=1, le=MOST_CLUSTERS)] = 20
    time_budget: Positive = 200.0  # minutes of a session; it ends when they are used up
    # Score of clicking nothing, beside the user's interests in the documents
    no_click_mass: float = 1.0
    # Subtracted from all scores, so that they become shares; the least interest is −1
    min_normalizer: Annotated[float, Field(le=-1)] = -1.0
    step_penalty: Annotated[float, Field(ge=0)] = 0.5  # minutes that a slate without a click takes
    # Minutes given back for a minute watched, at a utility of 1
    user_update_alpha: float = 0.9 * (1.0 / 3.4)
    user_quality_factor: float = 0.0  # weight of the user's score of a document in the utility
    document_quality_factor: float = 1.0  # weight of its quality
    alpha_x_intercept: Positive = 1.0  # size of an interest from which on a click does not move it
    alpha_y_intercept: float = 0.3  # share of the way that a click moves an interest of 0
    min_utility: float = -3.0  # mean quality of the worst cluster
    max_utility: float = 3.0  # mean quality of the best cluster
    video_length: Positive = 4.0  # minutes that a document takes
    # Steps after which an episode is truncated. By default as many as in a session without any
    # click; with RecSim's defaults hardly any session is longer
    step_limit: Steps = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        features = self.num_features
        if int(features * 0.7) + int(features * 0.3) != features:
            # RecSim has 70% of the clusters below quality 0, the rest above it.
            raise InputError(f"num_features: expected a multiple of 10, got {features}")
        if self.no_click_mass <= self.min_normalizer:
            raise InputError(
                f"no_click_mass: expected more than min_normalizer ({self.min_normalizer}), "
                f"got {self.no_click_mass}"
            )

    @property
    def user_size(self) -> int:
        """The interests, one for each cluster."""
        return self.num_features

    document_size = user_size  # the cluster, one-hot; quality is hidden until the click
    items = user_size  # one item for each cluster, whose documents look alike

    @property
    def horizon(self) -> int:
        """The step limit; most sessions end long before it."""
        return self.step_limit
