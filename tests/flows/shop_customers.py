"""Customers of the artificial shop, with one decision per visit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.trajectories.sources.example import COUNTRIES, DEVICES, ITEMS, Shop
from tests.flows.nights import EPSILON

USER = ["country", "device", "age"]
RECIPE = """
source = "logs/*.parquet"
[columns]
time = "time"
user = ["country", "device", "age"]
item = "item_id"
propensity = "pscore"
reward = "click"
"""


@dataclass
class ShopCustomers:
    """A number of visits per day; everything in the shop is on offer."""

    visits: int
    shop: Shop = field(default_factory=Shop.opened)
    name: str = "shop"
    recipe: str = RECIPE

    def open(self, folder: Path) -> None:
        """Nothing to write: the catalogue comes from the logs."""

    def day(self, champion: Any | None, number: int) -> pd.DataFrame:
        """Visits with the user, the shown item, its propensity, and the click."""
        rng, visits = np.random.default_rng([0, number]), self.visits
        customers = self.shop.customers(visits, rng)
        if champion is None:
            items, propensity = rng.integers(0, ITEMS, visits), np.full(visits, 1 / ITEMS)
        else:
            params = {"epsilon": EPSILON, "seed": number}
            answers = champion.predict(requests(customers), params=params)
            items = answers["items"].str[0].astype(int).to_numpy()
            propensity = answers["propensity"].to_numpy()
        return customers.assign(
            time=np.arange(visits) + number * visits,
            item_id=items,
            pscore=propensity,
            click=self.shop.clicks(customers, items, rng),
        )

    def share(self, champion: Any, epsilon: float) -> float:
        """Clicks per visit by the tastes of all kinds: random is 0, the optimum 1."""
        kinds = pd.MultiIndex.from_product([COUNTRIES, DEVICES, range(18, 80)], names=USER)
        customers = kinds.to_frame(index=False)
        best: NDArray[np.intp] = champion.predict(requests(customers))["items"].str[0].astype(int)
        chances = self.shop.chances(customers)
        value = chances[np.arange(len(customers)), best].mean()
        random, optimum = chances.mean(), chances.max(axis=1).mean()
        return float((1 - epsilon) * (value - random) / (optimum - random))


def requests(customers: pd.DataFrame) -> pd.DataFrame:
    """A request for each customer; everything in the shop is on offer."""
    return pd.DataFrame({"user": customers[USER].to_dict("records")})
