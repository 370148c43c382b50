"""Scoring rules: what a behaviour policy goes by when it prefers some candidates to others.

A rule turns an observation into one score a candidate, (B, N), the higher the better. Whatever
does that is a rule: `GreedyPolicy` and `SoftmaxPolicy` ask for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import (
    EnvironmentSpec,
    InterestEvolutionSpec,
    InterestExplorationSpec,
    Observation,
)
from slateflow.environments import interest_evolution as evolution
from slateflow.errors import InputError, unknown


class ScoringRule(Protocol):
    """Scores (B, N) of the candidates on offer."""

    def __call__(self, observation: Observation) -> NDArray[np.floating[Any]]:
        """The higher, the better."""
        ...


@dataclass(frozen=True)
class FirstFeature:
    """The first feature of a document: clickbait score, or quality in interest exploration."""

    def __call__(self, observation: Observation) -> NDArray[np.floating[Any]]:
        """Scores (B, N)."""
        return observation["candidates"][:, :, 0]


FIRST_FEATURE = FirstFeature()


@dataclass(frozen=True)
class Affinity:
    """The scalar product of user and document, where both have the same features."""

    def __call__(self, observation: Observation) -> NDArray[np.floating[Any]]:
        """Scores (B, N)."""
        scores = np.matmul(observation["candidates"], observation["user"][:, :, None])
        return np.asarray(scores[:, :, 0])


@dataclass(frozen=True)
class ClusterQuality:
    """Mean quality of a document's cluster, where the quality itself is hidden."""

    means: tuple[float, ...]  # (D,), one a cluster

    def __call__(self, observation: Observation) -> NDArray[np.floating[Any]]:
        """Scores (B, N)."""
        return np.asarray(observation["candidates"] @ np.array(self.means))


@dataclass(frozen=True)
class Opposite:
    """The same scores with the other sign."""

    rule: ScoringRule

    def __call__(self, observation: Observation) -> NDArray[np.floating[Any]]:
        """Scores (B, N)."""
        return -self.rule(observation)


RULES = ("greedy", "opposite", "affinity", "quality")
"""Names of the scoring rules in a recipe."""


def scoring_rule(name: str, spec: EnvironmentSpec) -> ScoringRule:
    """The scoring rule of that name for that world.

    `greedy` is what pays most at once as far as the observation shows it: the clickbait score in
    long-term satisfaction, `affinity` where the user is observed (interest evolution), `quality`
    where it is not (interest exploration).

    Raises:
        InputError: There is no such rule, or the world does not show what it goes by.

    Example:
        >>> from slateflow.environments import preset
        >>> scoring_rule("opposite", preset("interest-exploration"))
        Opposite(rule=FirstFeature())
    """
    rules: dict[str, ScoringRule] = {}
    match spec:
        case InterestEvolutionSpec():
            quality = ClusterQuality(tuple(evolution.cluster_means(spec).tolist()))
            rules = {"greedy": Affinity(), "affinity": Affinity(), "quality": quality}
        case InterestExplorationSpec():
            rules = {"greedy": FIRST_FEATURE, "quality": FIRST_FEATURE}
        case _:
            rules = {"greedy": FIRST_FEATURE}
    rules["opposite"] = Opposite(rules["greedy"])
    if name not in RULES:
        raise unknown("scorer", name, list(RULES))
    if name not in rules:
        raise InputError(
            f"scorer {name!r}: {spec.name} shows nothing to go by; expected one of "
            f"{', '.join(sorted(rules))}"
        )
    return rules[name]
