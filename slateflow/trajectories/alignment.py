"""Users and items in the features of other days of the recipe, for a model learnt there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.logged import LoggedSpec
from slateflow.policies import AnyScorer

Array = NDArray[np.float64]


def aligned(features: NDArray[Any], names: Sequence[str], wanted: Sequence[str]) -> NDArray[Any]:
    """Features (…, W) under the wanted names, from features (…, F); zeros for a name that is new.

    Example:
        >>> aligned(np.array([[30.0, 1.0]]), ["age", "country=de"], ["country=at", "age"]).tolist()
        [[0.0, 30.0]]
    """
    place = {name: number for number, name in enumerate(names)}
    found = np.array([place.get(name, -1) for name in wanted], np.intp)
    chosen = np.zeros((*features.shape[:-1], len(wanted)), features.dtype)
    chosen[..., found >= 0] = features[..., found[found >= 0]]
    return chosen


@dataclass(frozen=True)
class AlignedScorer:
    """A scorer that was learnt on other days of the recipe, asked about users and items of these.

    Categories and items that its logs did not have are zeros to it. A session memory that sums up
    features has those of these days.
    """

    scorer: AnyScorer
    spec: LoggedSpec  # of these days
    other: LoggedSpec  # of the logs that it was learnt from

    @property
    def slate_size(self) -> int:
        """K, candidates shown."""
        return self.scorer.slate_size

    @property
    def decays(self) -> Array:
        """(H,) factors of a session memory that sums up features; empty without one."""
        return self.scorer.decays

    @property
    def window(self) -> int:
        """Steps before the end within which the number of steps left counts."""
        return self.scorer.window

    @property
    def memory_size(self) -> int:
        """M, numbers in the session memory."""
        summed = len(self.decays) * (self.spec.document_size + 1)
        return summed or self.scorer.memory_size

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: Array | None = None,
    ) -> Array:
        """Scores (B, N), as of `Scorer.scores`."""
        if memory is not None and len(self.decays):
            sums = memory.reshape(len(memory), len(self.decays), -1)
            sums = np.concatenate([self._items(sums[:, :, :-1]), sums[:, :, -1:]], axis=2)
            memory = sums.reshape(len(memory), -1)
        return self.scorer.scores(self._users(user), step, self._items(candidates), memory)

    def remember(
        self,
        memory: Array,
        user: NDArray[np.floating],
        shown: NDArray[np.floating],
        clicked: NDArray[np.integer],
        reward: NDArray[np.floating],
    ) -> Array:
        """The memory (B, M) after a step, as of `Scorer.remember`."""
        if not len(self.decays):
            user, shown = self._users(user), self._items(shown)
        return self.scorer.remember(memory, user, shown, clicked, reward)

    def _users(self, features: NDArray[Any]) -> NDArray[Any]:
        return aligned(features, self.spec.user_features, self.other.user_features)

    def _items(self, features: NDArray[Any]) -> NDArray[Any]:
        return aligned(features, self.spec.item_features, self.other.item_features)
