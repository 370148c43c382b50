"""A shop that shows three of twelve items: single decisions, users of two kinds who may choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import BySlate
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

ITEMS, PLACES = 12, 3
TASTE = np.random.default_rng(5).normal(-2.0, 1.0, (2, ITEMS))
"""Log-odds of a click, by kind of user and item."""
HABITS = ("all at once", "from the top", "the first place most")


def chosen(
    habit: str, kind: NDArray[Any], slates: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.int32]:
    """The clicked places (B,) of slates (B, 3), −1 for none.

    Users look at all items at once and take one or none (a conditional logit); or they move down
    from the top with probability 0.7 at each place, and take the first item that they like; or
    they look at a place with probability 1, 0.5 or 0.25, and take the first that they like.
    """
    odds = TASTE[kind[:, None], slates]
    rows, none = odds.shape, np.zeros((len(odds), 1))
    if habit == "all at once":
        best = (np.column_stack([odds, none]) + rng.gumbel(size=(rows[0], PLACES + 1))).argmax(1)
        return np.where(best == PLACES, -1, best).astype(np.int32)
    if habit == "from the top":
        looks = np.column_stack([none == 0, rng.random((rows[0], PLACES - 1)) < 0.7])
        looks = np.logical_and.accumulate(looks, axis=1)
    else:
        looks = rng.random(rows) < np.array([1, 0.5, 0.25])
    likes = looks & (rng.random(rows) < 1 / (1 + np.exp(-odds)))
    return first_liked(likes).astype(np.int32)


def random_slates(rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Equally likely slates (R, 3)."""
    return rng.random((rows, ITEMS)).argsort(axis=1)[:, :PLACES]


def logs(folder: Path, habit: str, rows: int, seed: int) -> Dataset:
    """Decisions of a random policy as a published dataset."""
    rng = np.random.default_rng(seed)
    kind, slates = rng.integers(0, 2, rows), random_slates(rows, rng)
    clicked = chosen(habit, kind, slates, rng)
    table = slates_table(slates, clicked, ITEMS)
    table["kind"] = np.array(["a", "b"])[kind]
    log(folder, "log.parquet", table)
    return published(folder, '[columns]\nuser = ["kind"]\nclicked = "clicked"\n')


class SlateByKind(BySlate):
    """Shows each kind of user one slate, from an array (U, K)."""

    def __init__(self, slates: NDArray[Any]) -> None:
        self.slates = np.asarray(slates, np.int32)

    def shown(self, observation: Observation) -> NDArray[np.int32]:
        """Slates (B, K)."""
        return np.asarray(self.slates[observation["user"].argmax(axis=1)])

    def value(self, habit: str, rows: int = 1_000_000) -> float:
        """Clicks per decision."""
        rng = np.random.default_rng(1)
        kind = rng.integers(0, 2, rows)
        return float((chosen(habit, kind, self.slates[kind], rng) >= 0).mean())


_BEST = np.argsort(-TASTE, axis=1)
POLICIES = {
    "what each likes best": SlateByKind(_BEST[:, :PLACES]),
    "the same upside down": SlateByKind(_BEST[:, PLACES - 1 :: -1]),
    "what each finds fair": SlateByKind(_BEST[:, 5 : 5 + PLACES]),
    "one list for all": SlateByKind(np.tile(np.arange(PLACES), (2, 1))),
}
