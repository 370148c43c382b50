"""A shop of two kinds of items, whose users like one kind more; no column contains which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.slate_shop import ITEMS, PLACES, SlateByKind, random_slates
from tests.trajectories.sources.shop import log, published, slates_table

KIND = np.arange(ITEMS) % 2
TASTES = ("of two kinds", "normal")
POLICIES = {
    "three of one kind": SlateByKind([[1, 3, 5]]),
    "three of the other": SlateByKind([[0, 2, 4]]),
    "two kinds": SlateByKind([[0, 1, 2]]),
}


def appeal(seed: int) -> NDArray[np.float64]:
    """(12,) log-odds of the items, beside tastes."""
    return np.random.default_rng(seed).normal(-1.6, 0.5, ITEMS)


def logs(folder: Path, tastes: str, spread: float, steps: int, sessions: int, seed: int) -> Dataset:
    """Sessions of a random policy as a published dataset."""
    rng = np.random.default_rng([seed, 1])
    rows = sessions * steps
    slates = random_slates(rows, rng)
    taste = np.repeat(_tastes(tastes, spread, sessions, rng), steps)
    clicked = _clicked(_likes(appeal(seed), taste, slates), rng)
    table = slates_table(slates, clicked, ITEMS)
    table |= {"age": rng.normal(size=rows), "session": np.arange(rows) // steps}
    log(folder, "log.parquet", table | {"step": np.arange(rows) % steps})
    columns = {"item": np.arange(ITEMS), "kind": KIND, "appeal": appeal(seed)}
    pd.DataFrame(columns).to_csv(folder / "items.csv", index=False)
    lines = ['user = ["age"]', 'clicked = "clicked"']
    if steps > 1:
        lines += ['episode = "session"', 'time = "step"']
    items = ["[items]", 'file = "items.csv"', 'features = ["kind", "appeal"]']
    return published(folder, "\n".join(["[columns]", *lines, *items, ""]))


def value(policy: SlateByKind, tastes: str, spread: float, seed: int) -> float:
    """Clicks per step, by the formula, over a million users."""
    taste = _tastes(tastes, spread, 1_000_000, np.random.default_rng(0))
    slates = np.broadcast_to(policy.slates, (len(taste), PLACES))
    likes = _likes(appeal(seed), taste, slates).sum(axis=1)
    return float((likes / (1 + likes)).mean())


def _tastes(tastes: str, spread: float, users: int, rng: np.random.Generator) -> NDArray[Any]:
    """(U,) log-odds by which a user likes one kind more, and the other less."""
    if tastes == "normal":
        return rng.normal(0, spread, users)
    return spread * rng.choice([-1.0, 1.0], users)


def _likes(odds: NDArray[Any], taste: NDArray[Any], slates: NDArray[Any]) -> NDArray[np.float64]:
    """(R, 3) odds of a click on each item relative to no click."""
    return np.exp(odds[slates] + np.where(KIND[slates] == 1, 1.0, -1.0) * taste[:, None])


def _clicked(likes: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int32]:
    """The clicked places (R,), −1 for none."""
    below = likes.cumsum(axis=1) / (1 + likes.sum(axis=1, keepdims=True))
    place = (rng.random((len(likes), 1)) > below).sum(axis=1)
    return np.where(place == PLACES, -1, place).astype(np.int32)
