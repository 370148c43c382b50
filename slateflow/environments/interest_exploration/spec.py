"""The parameters of interest exploration."""

from __future__ import annotations

import math
from typing import ClassVar

from slateflow.environments.spec import EnvironmentSpec, Steps
from slateflow.errors import InputError
from slateflow.validation import Matrix, Numbers, validated


@validated
class InterestExplorationSpec(EnvironmentSpec):
    """RecSim's interest exploration: clicks of most users hide those of a niche.

    Field names and defaults are those of RecSim's `IEUserModel`, `IEClusterUserSampler` and
    `IETopicDocumentSampler`. Only `step_limit` is ours, because RecSim's users never leave.
    """

    world: ClassVar[str] = "interest_exploration"
    response_columns: ClassVar[tuple[str, ...]] = ("quality", "cluster")
    user_size: ClassVar[int] = 0  # affinities are hidden

    user_type_distribution: Numbers = (0.3, 0.7)  # shares of the user types
    # Mean log affinity of a type (row) to a topic (column)
    user_document_mean_affinity_matrix: Matrix = ((0.1, 0.7), (0.7, 0.1))
    # Standard deviation of the log affinity
    user_document_stddev_affinity_matrix: Matrix = ((0.1, 0.1), (0.1, 0.1))
    # Score of clicking nothing, beside the documents' affinity plus quality
    no_click_mass: float = 5.0
    topic_distribution: Numbers = (0.2, 0.8)  # shares of the topics among documents
    topic_quality_mean: Numbers = (0.8, 0.2)  # mean log quality of the documents of a topic
    topic_quality_stddev: Numbers = (0.1, 0.1)  # its standard deviation
    # Steps after which an episode is truncated. Only the session's clicks show the user's type, so
    # the default leaves time to find out
    step_limit: Steps = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        types, topics = len(self.user_type_distribution), len(self.topic_distribution)
        for name in ("user_type_distribution", "topic_distribution"):
            shares = getattr(self, name)
            if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
                raise InputError(f"{name}: expected shares that add up to 1, got {list(shares)}")
        moments = ("topic_quality_mean", "topic_quality_stddev")
        by_topic = [(name, getattr(self, name)) for name in moments]
        for name in ("user_document_mean_affinity_matrix", "user_document_stddev_affinity_matrix"):
            rows = getattr(self, name)
            if len(rows) != types:
                raise InputError(
                    f"{name}: expected {types} rows, one for each user type, got {len(rows)}"
                )
            by_topic += [(name, row) for row in rows]
        for name, values in by_topic:
            if len(values) != topics:
                raise InputError(
                    f"{name}: expected {topics} numbers, one for each topic, got {list(values)}"
                )
            if "stddev" in name and min(values) < 0:
                raise InputError(f"{name}: expected 0 or more, got {list(values)}")

    @property
    def document_size(self) -> int:
        """The quality, then the topic, one-hot."""
        return 1 + len(self.topic_distribution)

    @property
    def horizon(self) -> int:
        """The step limit."""
        return self.step_limit

    @property
    def candidate_bounds(self) -> tuple[float, float]:
        """Quality is log-normal, and NumPy has no standard normals beyond 14."""
        moments = zip(self.topic_quality_mean, self.topic_quality_stddev, strict=True)
        largest = max(mean + 14 * stddev for mean, stddev in moments)
        return 0.0, math.exp(min(max(largest, 0.0), 88.0))  # float32 ends at e to the 88.7
