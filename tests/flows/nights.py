"""Nights of a shop whose recommender learns from what it showed.

By day customers are served by the registry's champion, which explores, and what happened is written
down as a table. By night the recipe reads all days, trains, and decides from the logs alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import flows.parameters  # noqa: F401 - its forms list the recipes that are there at its import
import tasks.experiment
from flows.cli.main import main
from slateflow.trajectories.sources.example import COUNTRIES, DEVICES, ITEMS, Shop

EPSILON = 0.1
CHAMPION = "models:/slateflow-shop@champion"
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


@dataclass(frozen=True)
class Night:
    """A night's verdict, and what the champion after it is worth.

    Attributes:
        document: What `slateflow run --json` printed.
        share: The champion's expected clicks a visit: random 0, the optimum 1. Nobody measures it;
            it follows from the tastes.
    """

    document: dict[str, Any]
    share: float

    @property
    def state(self) -> str:
        """Fate of the best candidate."""
        if self.document["registered"] is not None:
            return "promoted"
        return "no verdict" if self.document["no_verdict"] else "kept"


@pytest.fixture
def recipes(embedded, tmp_path, monkeypatch) -> Path:
    """A folder with the shop's recipe, and a registry that nobody else writes to."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    folder = tmp_path / "datasets"
    (folder / "logs").mkdir(parents=True)
    (folder / "shop.toml").write_text(RECIPE)
    monkeypatch.setattr(tasks.experiment, "RECIPES", folder)
    return folder


def nights(
    folder: Path, number: int, visits: int, printed: Callable[[], str], learners: str, seed: int = 0
) -> Iterator[Night]:
    """Open the shop for so many days, the first without a champion.

    Args:
        folder: That of the recipe.
        number: Nights.
        visits: Of customers, a day.
        printed: What the command line has printed since it was last asked.
        learners: Those that train, with commas.
        seed: Of the shop and its customers.
    """
    shop, champion = Shop.opened(seed), None
    for night in range(number):
        rng = np.random.default_rng([seed, night])
        day(shop, champion, visits, night, rng).to_parquet(folder / "logs" / f"{night:02}.parquet")
        assert main(["run", "shop", "--learners", learners, "--seed", str(night), "--json"]) == 0
        document = json.loads(printed())
        if document["registered"] is not None:
            champion = mlflow.pyfunc.load_model(CHAMPION)
        yield Night(document, 0.0 if champion is None else share_of_the_way(shop, champion))


def day(
    shop: Shop, champion: Any | None, visits: int, number: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows that the recommender writes: who came, what was shown how likely, and a click."""
    customers = shop.customers(visits, rng)
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
        click=shop.clicks(customers, items, rng),
    )


def requests(customers: pd.DataFrame) -> pd.DataFrame:
    """A request for each customer; everything in the shop is on offer."""
    return pd.DataFrame({"user": customers[USER].to_dict("records")})


def share_of_the_way(shop: Shop, champion: Any) -> float:
    """Worth of the champion's best to all kinds of customers: random 0, the optimum 1."""
    kinds = pd.MultiIndex.from_product([COUNTRIES, DEVICES, range(18, 80)], names=USER)
    customers = kinds.to_frame(index=False)
    best: NDArray[np.intp] = champion.predict(requests(customers))["items"].str[0].astype(int)
    chances = shop.chances(customers)
    value = chances[np.arange(len(customers)), best].mean()
    random, optimum = chances.mean(), chances.max(axis=1).mean()
    return float((value - random) / (optimum - random))
