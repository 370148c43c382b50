"""A shop with known prices of items and budgets of users; slates of three.

Users go through a slate from the top, look at its places with decreasing probability, and buy the
first item that they like.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import BySlate
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

Array = NDArray[np.float64]

ITEMS = 30
PRICES = np.linspace(5.0, 100.0, ITEMS)
LEAST, MOST = 10.0, 90.0
"""Limits of users' budgets, which are uniform."""
LOOKS = (1.0, 0.7, 0.5)
"""Probabilities of looking at the places of a slate."""
OWN = np.random.default_rng(5).normal(size=ITEMS)
"""Effects of the items beside their prices, in log-odds."""
COLUMNS = (
    '[columns]\nuser = ["budget"]\nclicked = "clicked"\n'
    '[items]\nfile = "items.parquet"\nid = "id"\nfeatures = [{}]\ntell_apart = "never"\n'
)
SIDE = 16.0
"""Side of the boxes, by price and budget, in which items are liked more or less."""
BUDGETS = np.linspace(LEAST, MOST, 4_001)


def _likely(log_odds: Array) -> Array:
    return 1 / (1 + np.exp(-log_odds))


def _rates(kind: str, budget: Array) -> Array:
    """Probabilities (B, M) of liking an item that one looks at."""
    rich, dear = (budget[:, None] - 50) / 25, (PRICES - 50) / 28
    line = -1.5 + 0.5 * rich * dear + 0.3 * dear
    if kind == "in a line":
        return _likely(line)
    if kind == "what they can spend":
        return 0.05 + 0.5 * np.exp(-0.5 * np.square((PRICES - budget[:, None]) / 15))
    if kind == "items of their own":
        return _likely(line + OWN)
    if kind == "boxes":
        box = np.floor(budget[:, None] / SIDE) + np.floor(PRICES / SIDE)
        return _likely(line + 2.0 * np.where(box % 2 > 0, 1.0, -1.0))
    middle = (np.abs(rich) < 0.4) & (np.abs(dear) < 0.5)
    return _likely(line + 1.5 * middle)  # a step


KINDS = ("in a line", "what they can spend", "items of their own", "a step")


def _value(rates: Array, slates: NDArray[Any]) -> float:
    shown = np.take_along_axis(rates, slates, axis=1)
    return float(1 - np.prod(1 - shown * LOOKS, axis=1).mean())


@dataclass(frozen=True)
class PricedShop:
    """The shop, whose users like items by one of the `KINDS`.

    Attributes:
        kind: One of the `KINDS`.
        features: Features of the items, as the recipe has them.
    """

    kind: str
    features: str = '"price"'

    def value(self, policy: ByPrice) -> float:
        """Purchases per slate, by quadrature over budgets."""
        return self.value_of(policy.slates(BUDGETS))

    def value_of(self, slates: NDArray[Any]) -> float:
        """Value of slates (B, K) for the `BUDGETS`."""
        return _value(_rates(self.kind, BUDGETS), slates)

    def value_of_random(self) -> float:
        """Value of a random policy, by draws."""
        rng, budget = np.random.default_rng(0), np.tile(BUDGETS, 50)
        return _value(_rates(self.kind, budget), _drawn(rng, len(budget)))

    def policies(self) -> dict[str, ByPrice]:
        """Policies that know the tastes, and policies that know only prices."""
        return {
            "the best": ByPrice(self.kind),
            "the dearest": ByPrice("dear"),
            "the cheapest": ByPrice("cheap"),
        }

    def slates(self, folder: Path, rows: int, seed: int) -> Dataset:
        """Logs of a random policy."""
        rng = np.random.default_rng(seed)
        budget = rng.uniform(LEAST, MOST, rows)
        shown = _drawn(rng, rows)
        rates = np.take_along_axis(_rates(self.kind, budget), shown, axis=1)
        likes = rng.random(rates.shape) < rates * LOOKS
        table = {**slates_table(shown, first_liked(likes), ITEMS), "budget": budget}
        log(folder, "log.parquet", table)
        items = pd.DataFrame({"id": np.arange(ITEMS), "price": PRICES})
        items.to_parquet(folder / "items.parquet")
        return published(folder, COLUMNS.format(self.features))


def _drawn(rng: np.random.Generator, rows: int) -> NDArray[np.intp]:
    return rng.random((rows, ITEMS)).argsort(axis=1)[:, : len(LOOKS)]


@dataclass(frozen=True)
class ByPrice(BySlate):
    """Shows the items that users of a kind like best, the most expensive, or the cheapest."""

    kind: str

    def slates(self, budget: Array) -> NDArray[np.intp]:
        """(B, K) slates for users with these budgets (B,)."""
        if self.kind in KINDS:
            worth = _rates(self.kind, budget)
        else:
            worth = np.tile(PRICES if self.kind == "dear" else -PRICES, (len(budget), 1))
        return np.argsort(-worth, axis=1, kind="stable")[:, : len(LOOKS)]

    def shown(self, observation: Observation) -> NDArray[np.intp]:
        """Slates (B, K)."""
        return self.slates(observation["user"][:, 0].astype(np.float64))
