"""Scoring rules, by which a behaviour policy prefers some candidates to others.

A rule turns an observation into scores (B, N), one a candidate, the higher the better. Any such
function is a rule: `GreedyPolicy` and `SoftmaxPolicy` ask for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.observation import Observation

ScoringRule: TypeAlias = Callable[[Observation], NDArray[np.floating[Any]]]
"""Scores (B, N) of the candidates on offer; the higher, the better."""


def first_feature(observation: Observation) -> NDArray[np.floating[Any]]:
    """The first feature of a candidate: clickbait score, or quality in interest exploration."""
    return observation["candidates"][:, :, 0]


def affinity(observation: Observation) -> NDArray[np.floating[Any]]:
    """The scalar product of user and candidate, where both have the same features."""
    scores = np.matmul(observation["candidates"], observation["user"][:, :, None])
    return np.asarray(scores[:, :, 0])


@dataclass(frozen=True)
class ClusterQuality:
    """Mean quality of a candidate's cluster, where the quality itself is hidden."""

    means: tuple[float, ...]  # (D,), one for each cluster

    def __call__(self, observation: Observation) -> NDArray[np.floating[Any]]:
        """Scores (B, N)."""
        return np.asarray(observation["candidates"] @ np.array(self.means))


@dataclass(frozen=True)
class Opposite:
    """Scores with the other sign."""

    rule: ScoringRule

    def __call__(self, observation: Observation) -> NDArray[np.floating[Any]]:
        """Scores (B, N)."""
        return -self.rule(observation)
