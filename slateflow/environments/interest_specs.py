"""The specs of RecSim's two worlds of interests; what they compute is in modules of their names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from slateflow.environments.spec import EnvironmentSpec
from slateflow.errors import InputError

Numbers = tuple[float, ...]

MOST_FEATURES = 32_760
"""Clusters that numbers of 16 bits can tell apart."""


@dataclass(frozen=True)
class InterestEvolutionSpec(EnvironmentSpec):
    """RecSim's interest evolution: what is liked now costs session time, what is good gives some.

    Field names and defaults are those of RecSim's `UtilityModelUserSampler`, `IEvUserModel` and
    `UtilityModelVideoSampler`, which fix some of them in their code. Without a field are the
    parameters of other choice models (`score_scaling`, `attention_prob`) and the deviation of
    quality within a cluster, a constant of RecSim's. Only `step_limit` is ours.

    Attributes:
        num_features: Clusters of documents, and interests of a user.
        time_budget: Minutes of a session; it ends when they are used up.
        no_click_mass: Score of clicking nothing, beside the user's interests in the documents.
        min_normalizer: Subtracted from all scores, so that they become shares.
        step_penalty: Minutes that a slate without a click takes.
        user_update_alpha: Minutes given back for a minute watched, at a utility of 1.
        user_quality_factor: Weight of the user's score of a document in the utility.
        document_quality_factor: Weight of its quality.
        alpha_x_intercept: Interest, up or down, from which a click moves it no more.
        alpha_y_intercept: Share of the way that a click moves an interest of 0.
        min_utility: Mean quality of the worst cluster.
        max_utility: Mean quality of the best cluster.
        video_length: Minutes that a document takes.
        step_limit: Steps after which an episode is truncated. The default is what the session
            lasts if nothing is ever clicked; by RecSim's defaults hardly any lasts longer.
    """

    world: ClassVar[str] = "interest_evolution"
    response_columns: ClassVar[tuple[str, ...]] = ("watch_time", "quality", "liked", "cluster")

    num_features: int = 20
    time_budget: float = 200.0
    no_click_mass: float = 1.0
    min_normalizer: float = -1.0
    step_penalty: float = 0.5
    user_update_alpha: float = 0.9 * (1.0 / 3.4)
    user_quality_factor: float = 0.0
    document_quality_factor: float = 1.0
    alpha_x_intercept: float = 1.0
    alpha_y_intercept: float = 0.3
    min_utility: float = -3.0
    max_utility: float = 3.0
    video_length: float = 4.0
    step_limit: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        features = self.num_features
        if features < 1 or int(features * 0.7) + int(features * 0.3) != features:
            # RecSim has 70% of the clusters below quality 0, the rest above it.
            raise InputError(f"num_features: expected a multiple of 10, got {features}")
        if features > MOST_FEATURES:
            raise InputError(f"num_features: expected {MOST_FEATURES} or fewer, got {features}")
        for name in ("time_budget", "video_length", "alpha_x_intercept"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.step_penalty < 0:
            raise InputError(f"step_penalty: expected 0 or more, got {self.step_penalty}")
        if self.min_normalizer > -1:  # the least interest
            raise InputError(f"min_normalizer: expected -1 or less, got {self.min_normalizer}")
        if self.no_click_mass <= self.min_normalizer:
            raise InputError(
                f"no_click_mass: expected more than min_normalizer ({self.min_normalizer}), "
                f"got {self.no_click_mass}"
            )
        if self.step_limit < 1:
            raise InputError(f"step_limit: expected at least 1, got {self.step_limit}")

    @property
    def user_size(self) -> int:
        """The interests."""
        return self.num_features

    @property
    def document_size(self) -> int:
        """The cluster, one-hot; quality is hidden until the document is clicked."""
        return self.num_features

    @property
    def horizon(self) -> int:
        """The step limit; most sessions end long before it."""
        return self.step_limit

    @property
    def user_bounds(self) -> tuple[float, float]:
        """From disgust to interest."""
        return -1.0, 1.0


@dataclass(frozen=True)
class InterestExplorationSpec(EnvironmentSpec):
    """RecSim's interest exploration: what most users click hides what a niche would click.

    Field names and defaults are those of RecSim's `IEUserModel`, `IEClusterUserSampler` and
    `IETopicDocumentSampler`. Only `step_limit` is ours, because RecSim's users never leave.

    Attributes:
        user_type_distribution: Shares of the user types.
        user_document_mean_affinity_matrix: Mean log affinity of a type (row) to a topic (column).
        user_document_stddev_affinity_matrix: Its standard deviation.
        no_click_mass: Score of clicking nothing, beside the documents' affinity plus quality.
        topic_distribution: Shares of the topics among documents.
        topic_quality_mean: Mean log quality of the documents of a topic.
        topic_quality_stddev: Its standard deviation.
        step_limit: Steps after which an episode is truncated. What kind of user it is shows in the
            clicks of the session only, so the default leaves time to find out.
    """

    world: ClassVar[str] = "interest_exploration"
    response_columns: ClassVar[tuple[str, ...]] = ("quality", "cluster")

    user_type_distribution: tuple[float, ...] = (0.3, 0.7)
    user_document_mean_affinity_matrix: tuple[tuple[float, ...], ...] = ((0.1, 0.7), (0.7, 0.1))
    user_document_stddev_affinity_matrix: tuple[tuple[float, ...], ...] = ((0.1, 0.1), (0.1, 0.1))
    no_click_mass: float = 5.0
    topic_distribution: tuple[float, ...] = (0.2, 0.8)
    topic_quality_mean: tuple[float, ...] = (0.8, 0.2)
    topic_quality_stddev: tuple[float, ...] = (0.1, 0.1)
    step_limit: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        types, topics = len(self.user_type_distribution), len(self.topic_distribution)
        for name in ("user_type_distribution", "topic_distribution"):
            _check_distribution(name, getattr(self, name))
        for name in ("topic_quality_mean", "topic_quality_stddev"):
            _check_length(name, getattr(self, name), topics)
        for name in ("user_document_mean_affinity_matrix", "user_document_stddev_affinity_matrix"):
            rows = getattr(self, name)
            if len(rows) != types:
                raise InputError(f"{name}: expected {types} rows, one a user type, got {len(rows)}")
            for row in rows:
                _check_length(name, row, topics)
        _check_deviations("topic_quality_stddev", self.topic_quality_stddev)
        for row in self.user_document_stddev_affinity_matrix:
            _check_deviations("user_document_stddev_affinity_matrix", row)
        if self.step_limit < 1:
            raise InputError(f"step_limit: expected at least 1, got {self.step_limit}")

    @property
    def user_size(self) -> int:
        """0: affinities are hidden."""
        return 0

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


def _check_distribution(name: str, shares: Numbers) -> None:
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"{name}: expected shares that add up to 1, got {list(shares)}")


def _check_length(name: str, values: Numbers, topics: int) -> None:
    if len(values) != topics:
        raise InputError(f"{name}: expected {topics} numbers, one a topic, got {list(values)}")


def _check_deviations(name: str, values: Numbers) -> None:
    if min(values) < 0:
        raise InputError(f"{name}: expected 0 or more, got {list(values)}")
