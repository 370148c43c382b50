"""Nights of a recommender that learns from its own logs.

By day the registry's champion serves customers and explores, and events are written to a table. By
night the recipe reads all days, trains, and decides from the logs alone.
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
    """Users, their behaviour, and facts that logs do not have.

    Attributes:
        name: Name of the recipe.
        recipe: Text of the recipe; its logs are in the folder `logs`.
    """

    @property
    def name(self) -> str: ...

    @property
    def recipe(self) -> str: ...

    def open(self, folder: Path) -> None:
        """Write the files that the recipe needs in addition to the logs."""

    def day(self, champion: Any | None, number: int) -> pd.DataFrame:
        """Rows that the recommender logs; without a champion it shows random items."""

    def share(self, champion: Any, epsilon: float) -> float:
        """Value of the champion with some exploration: random is 0, the best 1."""


@dataclass(frozen=True)
class Night:
    """A night's verdict, and the value of the champion after it.

    Attributes:
        document: Output of `slateflow run --json`.
        share: The champion's true value, which verdicts do not know: random is 0, the best 1.
        served: Value of the served policy, which explores.
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
    """A folder of recipes with one for logs, and a separate registry."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    folder = tmp_path / "datasets"
    (folder / "logs").mkdir(parents=True)
    monkeypatch.setattr(tasks.experiment, "RECIPES", folder)
    return folder


def nights(
    folder: Path, customers: Customers, number: int, printed: Callable[[], str], learners: str
) -> Iterator[Night]:
    """Serve for a number of days, the first without a champion.

    Args:
        folder: Folder of the recipe.
        customers: Customers of all days.
        number: Number of nights.
        printed: Returns the command line's output since the last call.
        learners: Names of the learners, separated by commas.
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
