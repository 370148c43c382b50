"""A shop whose policy knows what each user likes, with or without a column for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import ByKind
from tests.trajectories.sources.shop import first_liked, log, published

ITEMS = 4
"""Number of items, and of kinds of users, each of which likes one item."""
LIKED, OTHER = 0.6, 0.1
"""Click rates of liked and of other items."""
EXPLORES = 0.3
"""Share of decisions that the policy draws at random."""
STEPS = 3

VALUE = STEPS * (LIKED + (ITEMS - 1) * OTHER) / ITEMS
"""Value of a session under any policy without the kinds, which are equally frequent."""
VALUE_KNOWING = STEPS * LIKED

_ONE_IN_SIGHT, _NONE = 1 - (1 - LIKED) * (1 - OTHER), 1 - (1 - OTHER) ** 2
VALUE_OF_TWO = (_ONE_IN_SIGHT + _NONE) / 2
"""Clicks on two random items of four."""


THE_LIKED = ByKind(np.eye(ITEMS))
"""Shows each kind the item that it likes."""


def clicks_on(
    folder: Path,
    item: NDArray[np.intp],
    steps: int,
    propensity: Any,
    clicks: Any,
    rng: Any,
    recipe: str = "",
) -> Dataset:
    """Sessions in which users who are all alike see these items (R,).

    Args:
        folder: For the logs.
        item: (R,) numbers of the items.
        steps: Number of steps in a session.
        propensity: Propensities of the rows (R,), or one for all.
        clicks: (M,) click rates of the items.
        rng: Draws the clicks.
        recipe: Further lines of the recipe.
    """
    table = {
        "session": np.repeat(np.arange(len(item) // steps), steps),
        "t": np.tile(np.arange(steps), len(item) // steps),
        "item": item,
        "propensity": propensity,
        "reward": (rng.random(len(item)) < clicks[item]).astype(int),
    }
    log(folder, "log.parquet", table)
    return published(folder, f'[columns]\nepisode = "session"\ntime = "t"\n{recipe}')


def sessions(
    folder: Path, count: int, seed: int, column: bool, explores: float = EXPLORES
) -> Dataset:
    """Steps at which users see one item; with `column` the logs contain the kind of user."""
    rng = np.random.default_rng(seed)
    kind, rows = np.repeat(rng.integers(0, ITEMS, count), STEPS), count * STEPS
    item = np.where(rng.random(rows) < explores, rng.integers(0, ITEMS, rows), kind)
    table = {
        "session": np.repeat(np.arange(count), STEPS),
        "time": np.tile(np.arange(STEPS), count),
        "item": item,
        "propensity": explores / ITEMS + (1 - explores) * (item == kind),
        "reward": (rng.random(rows) < np.where(item == kind, LIKED, OTHER)).astype(np.int64),
    }
    return _published(folder, table, kind, '\nepisode = "session"\ntime = "time"\n', column)


def slates(folder: Path, count: int, seed: int, column: bool) -> Dataset:
    """Single slates of two, at which users look from the top."""
    rng = np.random.default_rng(seed)
    kind, every = rng.integers(0, ITEMS, count), np.arange(count)
    order = rng.random((count, ITEMS))
    order[every, kind] -= rng.random(count) >= EXPLORES  # liked items come first
    shown = order.argsort(axis=1)[:, :2]
    pairs = ITEMS * (ITEMS - 1)
    known = (1 - EXPLORES) * (shown[:, 0] == kind) / (ITEMS - 1)
    likes = rng.random((count, 2)) < np.where(shown == kind[:, None], LIKED, OTHER)
    clicked = first_liked(likes)
    table = {"item": shown.tolist(), "propensity": EXPLORES / pairs + known}
    table |= {"clicked": clicked, "reward": (clicked >= 0).astype(np.int64)}
    return _published(folder, table, kind, '\nclicked = "clicked"\n', column)


def _published(
    folder: Path, table: dict[str, Any], kind: NDArray[Any], columns: str, column: bool
) -> Dataset:
    if column:
        table["kind"] = np.array(["a", "b", "c", "d"])[kind]
        columns += 'user = ["kind"]\n'
    folder.mkdir(parents=True, exist_ok=True)
    log(folder, "log.parquet", table)
    return published(folder, "[columns]" + columns)
