"""Visitors who come back, each with a mood and tastes that no column contains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.policies import RandomPolicy
from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import ByKind
from tests.trajectories.sources.shop import log, published

Array = NDArray[np.float64]
Items = NDArray[np.intp]

KINDS, ITEMS = 3, 6
BEST = 2 * np.arange(KINDS)
"""The item that visitors of each kind like best."""

TARGETS = {"random": RandomPolicy(1), "the best": ByKind(np.eye(ITEMS)[BEST])}


@dataclass(frozen=True)
class ReturningVisitors:
    """Visitors who click items that they like, and an item less often after the first click on it.

    Attributes:
        visits: Number of visits of each visitor.
        left: Share of a like that remains after a click on the item; 1 for those who do not tire.
        keeps: Whether the logging policy draws an item for each visitor, as experiments do, and
            not for each visit.
    """

    visits: int
    left: float = 1.0
    keeps: bool = False

    def come(
        self, visitors: int, shown: Callable[[np.random.Generator, Items], Items], seed: int
    ) -> dict[str, NDArray[Any]]:
        """A row for each visit, in order: `who`, `kind`, `item` and `reward`.

        Args:
            visitors: Number of visitors.
            shown: Function to the items that a policy shows to visitors of some kinds.
            seed: Seed of visitors, policy and clicks.
        """
        rng = np.random.default_rng(seed)
        kind, who = rng.integers(0, KINDS, visitors), np.arange(visitors)
        log_odds = np.full((KINDS, ITEMS), -1.5)
        log_odds[np.arange(KINDS), BEST] = 0.0
        mood, taste = rng.normal(size=(visitors, 1)), rng.normal(0, 0.7, (visitors, ITEMS))
        likes = 1 / (1 + np.exp(-(log_odds[kind] + mood + taste)))
        found = []
        for _ in range(self.visits):
            item = shown(rng, kind)
            clicked = rng.random(visitors) < likes[who, item]
            found.append({"who": who, "kind": kind, "item": item, "reward": clicked})
            new = clicked & ~_clicked_before(found[:-1], item)
            likes[who[new], item[new]] *= self.left
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

    def logs(self, folder: Path, visitors: int, seed: int, columns: str = "") -> Dataset:
        """Logs of a random policy, with further lines in `[columns]`."""
        rows = self.come(visitors, _Kept() if self.keeps else _at_random, seed)
        table = rows | {
            "propensity": np.full(len(rows["who"]), 1 / ITEMS),
            "reward": rows["reward"].astype(np.int64),
            "kind": np.array(["a", "b", "c"])[rows["kind"]],
        }
        log(folder, "log.parquet", table)
        return published(folder, f'[columns]\nuser = ["kind"]\n{columns}\n')

    def values(self) -> dict[str, float]:
        """Clicks per visit under each of the `TARGETS`, over 400,000 visits or more."""
        visitors = max(400_000 // self.visits, 20_000)
        shown = {
            "random": _at_random,
            "the best": lambda rng, kind: BEST[kind],
        }
        return {
            name: float(self.come(visitors, one, 1_000_003)["reward"].mean())
            for name, one in shown.items()
        }


def _at_random(rng: np.random.Generator, kind: Items) -> Items:
    return rng.integers(0, ITEMS, len(kind))


class _Kept:
    """A random policy that always shows visitors the item that it drew for them first."""

    drawn: Items | None = None

    def __call__(self, rng: np.random.Generator, kind: Items) -> Items:
        self.drawn = _at_random(rng, kind) if self.drawn is None else self.drawn
        return self.drawn


def _clicked_before(visits: list[dict[str, NDArray[Any]]], item: Items) -> NDArray[np.bool_]:
    """(V,) whether each visitor has clicked the item given for them on one of the visits."""
    found = np.zeros(len(item), np.bool_)
    for one in visits:
        found |= one["reward"] & (one["item"] == item)
    return found
