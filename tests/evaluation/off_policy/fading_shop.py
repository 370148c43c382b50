"""A shop in which the number of the step matters: users click less with each step, and leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import ByKind
from tests.evaluation.off_policy.tired_shop import COLUMNS, ITEMS, KINDS
from tests.trajectories.sources.shop import log, published

STEPS = 8
LOGGED = np.tile([3.0, 3, 3, 1, 1, 1], (KINDS, 1)) / 12
"""Probabilities with which the logging policy shows the items to each kind."""


@dataclass(frozen=True)
class FadingShop:
    """Sessions of at most eight steps; no column contains the number of the step.

    Attributes:
        fades: Share of the clicks that remains a step later.
        keeps: Share by which a click reduces the probability that the session ends.
        longer: Whether that probability rises with each step; otherwise it is constant until the
            last step.
    """

    fades: float = 1.0
    keeps: float = 0.0
    longer: bool = True

    @property
    def likes(self) -> NDArray[np.float64]:
        """(3, M) probabilities of a click at the first step."""
        return np.random.default_rng(0).uniform(0.05, 0.6, (KINDS, ITEMS))

    def played(self, shown: NDArray[np.float64], sessions: int, seed: int) -> dict[str, Any]:
        """Steps of sessions in which kinds see items with these probabilities (3, M)."""
        rng = np.random.default_rng(seed)
        kinds, going = rng.integers(0, KINDS, sessions), np.arange(sessions)
        steps = []
        for step in range(STEPS):
            kind = kinds[going]
            below = rng.random((len(going), 1)) > shown[kind].cumsum(axis=1)
            item = np.minimum(below.sum(axis=1), ITEMS - 1)
            click = rng.random(len(going)) < self.likes[kind, item] * self.fades**step
            steps.append((going, np.full(len(going), step), kind, item, click))
            ends = np.full(len(going), (step + 1) / STEPS if self.longer else 0.3)
            ends *= 1 - self.keeps * click
            going = going[rng.random(len(going)) >= ends]
        columns = map(np.concatenate, zip(*steps, strict=True))
        return dict(zip(("session", "time", "kind", "item", "click"), columns, strict=True))

    def value(self, policy: ByKind, sessions: int = 400_000) -> float:
        """Clicks per session."""
        return float(self.played(policy.shown, sessions, 1)["click"].sum() / sessions)

    def logs(self, folder: Path, sessions: int, seed: int) -> Dataset:
        """Logs of a policy that shows everything, half of the items three times as often."""
        found = self.played(LOGGED, sessions, seed)
        kind, item = found["kind"], found["item"]
        named = {"kind": np.array(["a", "b", "c"])[kind], "propensity": LOGGED[kind, item]}
        log(folder, "log.parquet", {**found, **named, "reward": found["click"].astype(float)})
        return published(folder, COLUMNS)

    def policies(self) -> dict[str, ByKind]:
        """Uniform choices, and the best and the worst item of each kind."""
        best, worst = (np.eye(ITEMS)[one(axis=1)] for one in (self.likes.argmax, self.likes.argmin))
        alike = np.full((KINDS, ITEMS), 1 / ITEMS)
        return {"all alike": ByKind(alike), "the best": ByKind(best), "the worst": ByKind(worst)}


SHOPS = {
    "alike at every step": FadingShop(longer=False),
    "the likelier the longer": FadingShop(),
    "and a click keeps": FadingShop(keeps=0.5),
    "and clicks fade": FadingShop(fades=0.8, keeps=0.5),
}
"""Shops by how their sessions end."""
