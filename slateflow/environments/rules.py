"""Scoring rules, by which a behaviour policy prefers some candidates to others.

A rule turns an observation into scores (B, N), one per candidate; higher is better. Any such
function is a rule: `GreedyPolicy` and `SoftmaxPolicy` need nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.observation import Observation

ScoringRule: TypeAlias = Callable[[Observation], NDArray[np.floating[Any]]]
"""Scores (B, N) of the candidates on offer; higher is better."""


def first_feature(observation: Observation) -> NDArray[np.floating[Any]]:
    """The candidates' first feature (B, N): clickbait score, or quality in interest exploration."""
    return observation["candidates"][:, :, 0]


def affinity(observation: Observation) -> NDArray[np.floating[Any]]:
    """Scalar products (B, N) of user and candidates, where both have the same features."""
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
