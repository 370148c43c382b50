"""A shop with known truth: five items, two kinds of users, a logging policy that explores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.trajectories import Dataset
from tests.trajectories.sources.shop import log, published

ITEMS = 5
LIKED = np.array([[0.30, 0.10, 0.05, 0.02, 0.08], [0.02, 0.05, 0.10, 0.30, 0.08]])
"""Click rates by kind of user and item."""
SHOWN = np.array([[0.10, 0.30, 0.30, 0.20, 0.10], [0.30, 0.20, 0.20, 0.10, 0.20]])
"""Probabilities of the logging policy by kind of user and item."""
COLUMNS = '[columns]\nuser = ["kind"]\n'


def frame(rows: int, seed: int, rates: NDArray[Any] = LIKED, shown: NDArray[Any] = SHOWN):
    """Logged decisions."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, rows)
    item = (rng.random(rows)[:, None] > np.cumsum(shown[kind], axis=1)).sum(axis=1)
    return pd.DataFrame(
        {
            "kind": np.array(["a", "b"])[kind],
            "item": item,
            "propensity": shown[kind, item],
            "reward": (rng.random(rows) < rates[kind, item]).astype(np.int64),
        }
    )


def dataset(folder: Path, logged: pd.DataFrame, policy: str | None = None) -> Dataset:
    """The decisions as a published dataset; `policy` is the name of the policies' column."""
    folder.mkdir(parents=True, exist_ok=True)
    log(folder, "log.parquet", {name: logged[name].to_numpy() for name in logged})
    return published(folder, COLUMNS + (f'policy = "{policy}"\n' if policy else ""))


class ByFirstPlace(ABC):
    """A policy of single items by its probabilities for each."""

    @abstractmethod
    def first_place(self, observation: Observation) -> NDArray[np.float64]:
        """Probabilities (B, N)."""

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities (B,) of slates (B, 1)."""
        return np.take_along_axis(self.first_place(observation), slates, axis=1)[:, 0]

    def act(self, observation: Observation, rng: np.random.Generator):
        """Draw a slate for each user."""
        below = np.cumsum(self.first_place(observation), axis=1)
        slates = (rng.random(len(below))[:, None] > below).sum(axis=1)[:, None].astype(np.int32)
        return slates, self.propensities(observation, slates)


class ByKind(ByFirstPlace):
    """Shows items by their probabilities (U, M) for each kind of user."""

    def __init__(self, shown: NDArray[Any]) -> None:
        self.shown = np.asarray(shown, np.float64)

    def first_place(self, observation: Observation) -> NDArray[np.float64]:
        """Probabilities (B, M) for the users' kinds."""
        return np.asarray(self.shown[observation["user"].argmax(axis=1)])


class OneItem(ByFirstPlace):
    """Shows one item to all."""

    def __init__(self, item: int) -> None:
        self.item = item

    def first_place(self, observation: Observation) -> NDArray[np.float64]:
        """1 for the item."""
        users, items = observation["candidates"].shape[:2]
        return np.eye(items)[np.full(users, self.item)]


class BySlate(ABC):
    """A policy that always shows the same slate to the same user."""

    @abstractmethod
    def shown(self, observation: Observation) -> NDArray[np.integer]:
        """Slates (B, K)."""

    def act(self, observation: Observation, rng: np.random.Generator):
        """The slates, each with a probability of 1."""
        del rng
        slates = self.shown(observation).astype(np.int32)
        return slates, np.ones(len(slates))

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> NDArray[np.float64]:
        """(B,) 1 where the slates are those of the policy."""
        return np.asarray((self.shown(observation) == slates).all(axis=1), np.float64)

    def first_place(self, observation: Observation) -> NDArray[np.float64]:
        """(B, N) 1 for the item in the first place."""
        return np.eye(observation["candidates"].shape[1])[self.shown(observation)[:, 0]]


FAVOURITE = ByKind(np.eye(ITEMS)[[0, 3]])
"""Shows all users their favourite: 0.30 clicks."""
EVENLY = ByKind(np.full((2, ITEMS), 1 / ITEMS))
