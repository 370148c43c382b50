"""A made-up shop that writes an example log: who is shown which item, and which is clicked.

    uv run python -m slateflow.trajectories.sources.example logs/monday.parquet

writes a day of decisions of a recommender that shows bestsellers most of the time.
"""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ITEMS = 34
COUNTRIES, DEVICES = ("at", "de", "fr", "it"), ("desktop", "phone", "tablet")
VISITS = 20_000
EXPLORED = 0.3
"""Share of the visits in which any item may be shown."""


@dataclass(frozen=True)
class Shop:
    """Customers with tastes, and their clicks.

    Attributes:
        tastes: (4, 3, ITEMS) probabilities of a click by country and device.
    """

    tastes: NDArray[np.float64]

    @classmethod
    def opened(cls, seed: int = 0) -> Shop:
        """A shop: some items sell a little everywhere, and each kind of customer has favourites."""
        rng = np.random.default_rng(seed)
        quality = rng.gamma(2.0, 0.01, ITEMS)
        by_country = rng.gamma(0.3, 0.12, (len(COUNTRIES), 1, ITEMS))
        by_device = rng.gamma(0.3, 0.06, (1, len(DEVICES), ITEMS))
        return cls(np.minimum(quality + by_country + by_device, 0.9))

    @property
    def bestsellers(self) -> NDArray[np.intp]:
        """(5,) items that sell best on average."""
        return np.argsort(-self.tastes.mean(axis=(0, 1)))[:5]

    def customers(self, visits: int, rng: np.random.Generator) -> pd.DataFrame:
        """Country, device and age of the customer of each visit."""
        return pd.DataFrame(
            {
                "country": np.array(COUNTRIES)[rng.integers(0, len(COUNTRIES), visits)],
                "device": np.array(DEVICES)[rng.integers(0, len(DEVICES), visits)],
                "age": rng.integers(18, 80, visits),
            }
        )

    def chances(self, customers: pd.DataFrame) -> NDArray[np.float64]:
        """(V, ITEMS) probabilities of a click in V visits."""
        country = np.searchsorted(COUNTRIES, customers.country)
        return np.asarray(self.tastes[country, np.searchsorted(DEVICES, customers.device)])

    def clicks(
        self, customers: pd.DataFrame, items: NDArray[np.integer], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """(V,) 1 where the shown item is clicked."""
        chance = self.chances(customers)[np.arange(len(customers)), items]
        return np.asarray(rng.random(len(customers)) < chance, np.int64)

    def log(self, visits: int, seed: int) -> pd.DataFrame:
        """A day's log of a recommender that shows a bestseller, and sometimes any item."""
        rng = np.random.default_rng([seed, 1])
        customers = self.customers(visits, rng)
        probability = np.full(ITEMS, EXPLORED / ITEMS)
        probability[self.bestsellers] += (1 - EXPLORED) / len(self.bestsellers)
        items = rng.choice(ITEMS, visits, p=probability)
        return customers.assign(
            item_id=items,
            pscore=probability[items],
            click=self.clicks(customers, items, rng),
        )


def main(target: Path, seed: int = 0) -> None:
    """Write a day's log; another seed is another day of the same shop."""
    target.parent.mkdir(parents=True, exist_ok=True)
    logged = Shop.opened().log(VISITS, seed)
    logged.to_parquet(target, index=False)
    print(f"{target}: {len(logged):,} visits, {logged.click.mean():.4f} clicks each")


if __name__ == "__main__":
    parser = ArgumentParser(description="Write a day's log of a made-up shop.")
    parser.add_argument("target", type=Path, help="Parquet file to write")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another day")
    main(**vars(parser.parse_args()))
