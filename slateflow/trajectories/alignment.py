"""Users and items in the features of other days of the recipe, for a model learnt there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.logged import LoggedSpec
from slateflow.policies import AnyScorer
from slateflow.shared_rows import distinct, for_rows
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.encoding import Encoding
from slateflow.trajectories.files.dataset import Dataset

Array = NDArray[np.float64]


def aligned(features: NDArray[Any], names: Sequence[str], wanted: Sequence[str]) -> NDArray[Any]:
    """Features (…, W) under the wanted names, from features (…, F); zeros for new names.

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
class CarriedItems:
    """The M items of these days, as a model version of other days answers requests for them.

    Attributes:
        catalogue: The items' features now.
        features: (M, D) the items' features in the version.
        refused: (M,) whether the version refuses requests with the item.
    """

    catalogue: Catalogue
    features: NDArray[np.float32]
    refused: NDArray[np.bool_]

    @classmethod
    def of(
        cls, dataset: Dataset, version: tuple[Encoding, Catalogue], names: Sequence[str]
    ) -> Self:
        """Look up the items of a dataset among those that a version carries.

        Args:
            dataset: Own logs of these days.
            version: The encoding and the catalogue that the version carries.
            names: Names of the features in that catalogue.
        """
        (then, catalogue), now = version, dataset.encoding
        assert isinstance(dataset.spec, LoggedSpec)
        assert now is not None
        assert dataset.catalogue is not None
        number = then.item_numbers(list(now.items))
        features = catalogue.features[number]
        unknown = number < 0
        features[unknown] = 0.0
        if then.described_by:  # their ids describe them
            described = aligned(dataset.catalogue.features, dataset.spec.item_features, names)
            features[unknown] = described[unknown]
        refused = unknown & (then.unknown_items == "refuse")
        # Among items with the same features now, `find` takes the first: put known items first
        first = np.argsort(unknown, kind="stable")
        now_described = Catalogue(dataset.catalogue.features[first])
        return cls(now_described, features[first], refused[first])

    def seen(self, features: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """The version's features (…, D) of items with features (…, F); for unknown ones `other`."""
        number = self.catalogue.find(features)
        return np.where(number[..., None] >= 0, self.features[number], other)

    def refuses(self, features: NDArray[Any]) -> NDArray[np.bool_]:
        """(…,) True where the version refuses items with features (…, F)."""
        number = self.catalogue.find(features)
        return np.asarray(self.refused[number] & (number >= 0))


@dataclass(frozen=True)
class AlignedScorer:
    """A scorer learnt on other days of the recipe, applied to users and items of these days.

    Categories that its logs lack are zeros. Items have the features that the version carries; items
    for which the version refuses requests are never shown. A session memory that sums up features
    has those of these days.
    """

    scorer: AnyScorer
    spec: LoggedSpec  # of these days
    other: LoggedSpec  # of the logs from which the scorer was learnt
    carried: CarriedItems | None = None  # None: items have the features of these days

    @property
    def slate_size(self) -> int:
        """K, candidates shown."""
        return self.scorer.slate_size

    @property
    def decays(self) -> Array:
        """(H,) decay factors of a session memory that sums up features; empty without one."""
        return self.scorer.decays

    @property
    def window(self) -> int:
        """Steps left are counted exactly only within this many steps of the end."""
        return self.scorer.window

    @property
    def memory_size(self) -> int:
        """M, numbers in the session memory."""
        own, other = self.spec.document_size, self.other.document_size
        return self.scorer.memory_size + len(self.decays) * (own - other)

    def scores(
        self,
        user: NDArray[np.floating],
        step: NDArray[np.integer],
        candidates: NDArray[np.floating],
        memory: Array | None = None,
    ) -> Array:
        """Scores (B, N), as of `Scorer.scores`."""
        if memory is not None and len(self.decays):
            summed = len(self.decays) * (self.spec.document_size + 1)
            sums, counts = np.split(memory, [summed], axis=1)
            sums = sums.reshape(len(memory), len(self.decays), -1)
            sums = np.concatenate([self._items(sums[:, :, :-1]), sums[:, :, -1:]], axis=2)
            memory = np.concatenate([sums.reshape(len(memory), -1), counts], axis=1)
        known = for_rows(self._items(distinct(candidates), self.carried), len(candidates))
        found = self.scorer.scores(self._users(user), step, known, memory)
        if self.carried is not None and self.carried.refused.any():
            found = np.where(self.carried.refuses(distinct(candidates)), -np.inf, found)
        return found

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
            user, shown = self._users(user), self._items(shown, self.carried)
        return self.scorer.remember(memory, user, shown, clicked, reward)

    def _users(self, features: NDArray[Any]) -> NDArray[Any]:
        return aligned(features, self.spec.user_features, self.other.user_features)

    def _items(self, features: NDArray[Any], carried: CarriedItems | None = None) -> NDArray[Any]:
        found = aligned(features, self.spec.item_features, self.other.item_features)
        return found if carried is None else carried.seen(features, found)
