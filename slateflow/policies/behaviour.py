"""The policies that make logs: random, greedy and its opposite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slateflow.environments import (
    EnvironmentSpec,
    InterestEvolutionSpec,
    InterestExplorationSpec,
    Observation,
)
from slateflow.errors import unknown
from slateflow.policies.base import Policy, Propensities, Slates, top_slates


@dataclass(frozen=True)
class RandomPolicy:
    """Every ordered slate of distinct candidates is equally likely.

    Example:
        >>> from slateflow.environments import BatchedLongTermSatisfaction, preset
        >>> observation, _ = BatchedLongTermSatisfaction(preset("modified-lts-20-2")).reset(seed=0)
        >>> slates, propensities = RandomPolicy(2).act(observation, np.random.default_rng(0))
        >>> float(propensities[0]) == 1 / (20 * 19)
        True
    """

    slate_size: int

    def act(
        self, observation: Observation, rng: np.random.Generator
    ) -> tuple[Slates, Propensities]:
        """Draw the places one after the other, without replacement."""
        batch, candidates = observation["candidates"].shape[:2]
        slates = np.empty((batch, self.slate_size), dtype=np.int32)
        for place in range(self.slate_size):
            # A uniform draw among the candidates that are left, as a position among all:
            # step over the taken ones in ascending order.
            chosen = rng.integers(0, candidates - place, batch, dtype=np.int32)
            for taken in np.sort(slates[:, :place], axis=1).T:
                chosen += chosen >= taken
            slates[:, place] = chosen
        return slates, np.full(batch, 1 / math.perm(candidates, self.slate_size))


@dataclass(frozen=True)
class GreedyPolicy:
    """The documents that pay most at once, best first; with `sign` −1 those that pay least.

    In long-term satisfaction that is the clickbait score: "sweetest", and "kaleiest". In interest
    exploration it is the quality, because the user's affinities are hidden.
    """

    slate_size: int
    sign: int = 1

    def act(
        self, observation: Observation, rng: np.random.Generator
    ) -> tuple[Slates, Propensities]:
        """The first feature ranks the candidates."""
        del rng  # deterministic
        slates = top_slates(self.sign * observation["candidates"][:, :, 0], self.slate_size)
        return slates, np.ones(len(slates))


@dataclass(frozen=True)
class AffinityPolicy:
    """The documents that the user likes best, in that order; with `sign` −1 those liked least.

    Greedy where the user is observed in the same features as the documents.
    """

    slate_size: int
    sign: int = 1

    def act(
        self, observation: Observation, rng: np.random.Generator
    ) -> tuple[Slates, Propensities]:
        """The scalar product of user and document ranks the candidates."""
        del rng  # deterministic
        scores = np.matmul(observation["candidates"], observation["user"][:, :, None])[:, :, 0]
        slates = top_slates(self.sign * scores, self.slate_size)
        return slates, np.ones(len(slates))


BEHAVIOURS = {"random": "random", "greedy": "sweetest", "opposite": "kaleiest"}
"""Names of the behaviour policies, and what they are called in long-term satisfaction."""

_LABELS = {
    InterestEvolutionSpec.world: ("best match", "worst match"),
    InterestExplorationSpec.world: ("best quality", "worst quality"),
}


def behaviour_labels(spec: EnvironmentSpec) -> dict[str, str]:
    """Names of the behaviour policies, and what they are called in that world."""
    if spec.world not in _LABELS:
        return dict(BEHAVIOURS)
    greedy, opposite = _LABELS[spec.world]
    return {"random": "random", "greedy": greedy, "opposite": opposite}


def behaviour_policy(name: str, spec: EnvironmentSpec) -> Policy:
    """The behaviour policy of that name for that world."""
    if name not in BEHAVIOURS:
        raise unknown("policy", name, list(BEHAVIOURS))
    if name == "random":
        return RandomPolicy(spec.slate_size)
    kind = AffinityPolicy if isinstance(spec, InterestEvolutionSpec) else GreedyPolicy
    return kind(spec.slate_size, sign=1 if name == "greedy" else -1)
