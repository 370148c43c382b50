"""Users and items in the features of other days of the recipe, for a model learnt there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.environments.logged import LoggedSpec
from slateflow.policies.base import Propensities, Rng, Scores, SlateDistribution, Slates


def aligned(
    features: NDArray[Any], names: Sequence[str], wanted: Sequence[str]
) -> NDArray[np.float32]:
    """Features (…, W) under the wanted names, from features (…, F); zeros for a name that is new.

    Example:
        >>> aligned(np.array([[30.0, 1.0]]), ["age", "country=de"], ["country=at", "age"]).tolist()
        [[0.0, 30.0]]
    """
    place = {name: number for number, name in enumerate(names)}
    found = np.array([place.get(name, -1) for name in wanted], np.intp)
    chosen = np.zeros((*features.shape[:-1], len(wanted)), np.float32)
    chosen[..., found >= 0] = features[..., found[found >= 0]]
    return chosen


@dataclass(frozen=True)
class AlignedPolicy:
    """A policy that was learnt on other days of the recipe, asked about users and items of these.

    Categories and items that its logs did not have are zeros to it.
    """

    policy: SlateDistribution
    spec: LoggedSpec  # of these days
    other: LoggedSpec  # of the logs that it was learnt from

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Slates (B, K), and the probabilities (B,) of showing exactly them."""
        return self.policy.act(self._aligned(observation), rng)

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Propensities:
        """Probabilities (B,) of showing exactly these slates (B, K)."""
        return self.policy.propensities(self._aligned(observation), slates)

    def first_place(self, observation: Observation) -> Scores:
        """Probabilities (B, N) that a candidate stands in the first place."""
        return self.policy.first_place(self._aligned(observation))

    def _aligned(self, observation: Observation) -> Observation:
        spec, other = self.spec, self.other
        changed = observation.copy()
        changed["user"] = aligned(observation["user"], spec.user_features, other.user_features)
        changed["candidates"] = aligned(
            observation["candidates"], spec.item_features, other.item_features
        )
        return changed
