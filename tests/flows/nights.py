"""Nights of a recommender that learns from what it showed.

By day customers are served by the registry's champion, which explores, and what happened is written
down as a table. By night the recipe reads all days, trains, and decides from the logs alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlflow
import pandas as pd
import pytest

import flows.parameters  # noqa: F401 - its forms list the recipes that are there at its import
import tasks.experiment
from flows.cli.main import main

EPSILON = 0.1


class Customers(Protocol):
    """Users who come, their doings, and all that only we know of them.

    Attributes:
        name: The recipe's.
        recipe: Its text; its logs are in the folder `logs`.
    """

    @property
    def name(self) -> str: ...

    @property
    def recipe(self) -> str: ...

    def open(self, folder: Path) -> None:
        """Write the files that the recipe needs beside the logs."""

    def day(self, champion: Any | None, number: int) -> pd.DataFrame:
        """Rows that the recommender writes; without a champion it shows anything."""

    def share(self, champion: Any, epsilon: float) -> float:
        """Worth of the champion with so much exploring: random 0, the best 1."""


@dataclass(frozen=True)
class Night:
    """A night's verdict, and what the champion after it is worth.

    Attributes:
        document: Output of `slateflow run --json`.
        share: The champion's true worth: random 0, the best 1. No verdict knows it.
        served: Value of what is served, which explores.
    """

    document: dict[str, Any]
    share: float
    served: float

    @property
    def state(self) -> str:
        """Fate of the best candidate."""
        if self.document["registered"] is not None:
            return "promoted"
        return "no verdict" if self.document["no_verdict"] else "kept"


@pytest.fixture
def recipes(embedded, tmp_path, monkeypatch) -> Path:
    """A folder of recipes with one for logs, and a registry that nobody else writes to."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    folder = tmp_path / "datasets"
    (folder / "logs").mkdir(parents=True)
    monkeypatch.setattr(tasks.experiment, "RECIPES", folder)
    return folder


def nights(
    folder: Path, customers: Customers, number: int, printed: Callable[[], str], learners: str
) -> Iterator[Night]:
    """Serve for so many days, the first without a champion.

    Args:
        folder: The recipe's.
        customers: Of all days.
        number: Nights.
        printed: All that the command line has printed since it was last asked.
        learners: Names of the learners, with commas.
    """
    (folder / f"{customers.name}.toml").write_text(customers.recipe)
    customers.open(folder)
    champion = None
    for night in range(number):
        rows = customers.day(champion, night)
        rows.to_parquet(folder / "logs" / f"{night:02}.parquet")
        asked = ["run", customers.name, "--learners", learners, "--seed", str(night), "--json"]
        assert main(asked) == 0
        document = json.loads(printed())
        if document["registered"] is not None:
            champion = mlflow.pyfunc.load_model(f"models:/slateflow-{customers.name}@champion")
        worth = [0.0 if champion is None else customers.share(champion, e) for e in (0.0, EPSILON)]
        yield Night(document, *worth)
