"""A shop of twelve items of four kinds, whose users have enough of a kind after one of its items.

They go through a slate of three from the top, and take the first item that they like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.policies import AnyScorer, GreedyPolicy, top_slates
from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.slate_shop import ITEMS, PLACES, random_slates
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

Array = NDArray[np.float64]
Slates = NDArray[np.intp]

TASTES = 3
KIND = np.arange(ITEMS) % 4
_RNG = np.random.default_rng(3)
LIKES = 1 / (
    1
    + np.exp(
        1.2 - 1.2 * _RNG.normal(size=(TASTES, 4))[:, KIND] - 0.3 * _RNG.normal(size=(TASTES, ITEMS))
    )
)
"""Probabilities with which users of a taste like an item by itself."""

LEFT = 0.5
"""Share of a like that remains with each other item of the kind."""

COLUMNS = (
    '[columns]\nuser = ["taste"]\nclicked = "clicked"\n'
    '[items]\nfile = "items.parquet"\nid = "id"\nfeatures = ["kind", "id"]\n'
)
EFFECTS = ("none", "above", "anywhere", "drawn away")
"""Other items of the kind bore users never, if above, or anywhere; or all other liked items draw
users away."""


def _likes(effect: str, taste: NDArray[Any], slates: Slates) -> Array:
    """(B, K) probabilities of liking the items of slates (B, K)."""
    alone = LIKES[taste[:, None], slates]
    same = KIND[slates][:, :, None] == KIND[slates][:, None]
    if effect == "none":
        return alone
    if effect == "drawn away":
        return np.asarray(alone * np.exp(alone - alone.sum(axis=1, keepdims=True)))
    others = np.tril(same, -1).sum(axis=2) if effect == "above" else same.sum(axis=2) - 1
    return np.asarray(alone * LEFT**others)


def by_taste(worth: Array, observation: Observation) -> Array:
    """(B, M) worth of items to users whose taste is observed, of (T, M) by taste."""
    return np.asarray(worth[observation["user"].argmax(axis=1)])


_FIRST = np.where((KIND[:, None] == KIND) & (LIKES[:, None] > LIKES[:, :, None]), 1, 0).sum(axis=2)
WORTH = {
    "the best": LIKES,
    "one of each kind": LIKES - _FIRST,  # all but the best of its kind come later
    "the least": -LIKES,
}
POLICIES = {name: GreedyPolicy(PLACES, partial(by_taste, worth)) for name, worth in WORTH.items()}


@dataclass(frozen=True)
class AlikeShop:
    """The shop, with one of the `EFFECTS`."""

    effect: str

    def clicks(self, taste: NDArray[Any], slates: Slates) -> Array:
        """(B, K) probabilities of taking the items of slates (B, K)."""
        likes = _likes(self.effect, taste, slates)
        goes_on = np.cumprod(1 - likes, axis=1)
        return np.asarray(likes * np.column_stack([np.ones(len(likes)), goes_on[:, :-1]]))

    def value(self, slates: Callable[[NDArray[Any]], Slates]) -> float:
        """Items taken per slate, on average over tastes (B,), with slates (B, K) for these."""
        taste = np.arange(200_000) % TASTES
        return float(self.clicks(taste, slates(taste)).sum(axis=1).mean())

    def values(self) -> dict[str, float]:
        """Values of a random policy, by draws, and of the `POLICIES`."""
        rng = np.random.default_rng(0)
        found = {"random": self.value(lambda taste: random_slates(len(taste), rng))}
        ranked = {name: top_slates(worth, PLACES) for name, worth in WORTH.items()}
        return found | {name: self.value(ranks.__getitem__) for name, ranks in ranked.items()}

    def score(self, scorer: AnyScorer, dataset: Dataset) -> float:
        """Score of a scorer: 0 is random, 1 the best slate of all."""
        assert dataset.catalogue is not None
        user, items = np.eye(TASTES), dataset.catalogue.features
        offered = np.broadcast_to(items, (TASTES, *items.shape))
        scores = scorer.scores(user, np.zeros(TASTES, np.int32), offered)
        every = np.array([*permutations(range(ITEMS), PLACES)])
        tastes = np.repeat(np.arange(TASTES), len(every))
        worth = self.clicks(tastes, np.tile(every, (TASTES, 1))).sum(axis=1)
        best = float(worth.reshape(TASTES, -1).max(axis=1).mean())
        random = float(worth.mean())
        shown = self.value(top_slates(scores, PLACES).__getitem__)
        return (shown - random) / (best - random)

    def slates(self, folder: Path, rows: int, seed: int) -> Dataset:
        """Logs of a random policy."""
        rng = np.random.default_rng(seed)
        taste, shown = rng.integers(0, TASTES, rows), random_slates(rows, rng)
        likes = rng.random(shown.shape) < _likes(self.effect, taste, shown)
        table = slates_table(shown, first_liked(likes), ITEMS)
        table["taste"] = np.array(["a", "b", "c"])[taste]
        log(folder, "log.parquet", table)
        items = pd.DataFrame({"id": np.arange(ITEMS), "kind": np.array(list("wxyz"))[KIND]})
        items.to_parquet(folder / "items.parquet")
        return published(folder, COLUMNS)
