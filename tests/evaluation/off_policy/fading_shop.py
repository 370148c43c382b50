"""A shop in which the number of the step decides: users click less from step to step, and leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.tired_shop import ByKind
from tests.trajectories.sources.shop import log, published

KINDS, ITEMS, STEPS = 3, 6, 8
COLUMNS = '[columns]\nepisode = "session"\ntime = "time"\nuser = ["kind"]\n'


@dataclass(frozen=True)
class FadingShop:
    """Sessions of at most eight steps.

    Attributes:
        fades: Share of the clicks that is left a step later.
        keeps: By how much a click makes it less likely that the session ends.
        longer: Whether sessions end the later the likelier, or alike at every step.
        features: Columns of an item beside its id.
    """

    fades: float = 1.0
    keeps: float = 0.0
    longer: bool = True
    features: int = 0

    def likes(self) -> NDArray[np.float64]:
        """(3, 6) probabilities of a click at the first step."""
        return np.random.default_rng(0).uniform(0.05, 0.6, (KINDS, ITEMS))

    def play(
        self, shown: NDArray[np.float64], sessions: int, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Sessions under probabilities (3, 6) of showing each item to each kind; a row a step."""
        rng = np.random.default_rng(seed)
        kind, rows = rng.integers(0, KINDS, sessions), []
        going = np.arange(sessions)
        for step in range(STEPS):
            of = kind[going]
            item = (rng.random((len(going), 1)) > shown[of].cumsum(axis=1)).sum(axis=1)
            item = np.minimum(item, ITEMS - 1)
            click = rng.random(len(going)) < self.likes()[of, item] * self.fades**step
            ends = (step + 1) / STEPS if self.longer else 0.3
            ends = np.where(click, ends * (1 - self.keeps), ends)
            rows.append(np.column_stack([going, np.full(len(going), step), of, item, click]))
            going = going[rng.random(len(going)) > (ends if step < STEPS - 1 else 1.0)]
        table = np.concatenate(rows)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        return dict(zip(("session", "step", "kind", "item", "click"), table.T, strict=True))

    def value(self, shown: NDArray[np.float64]) -> float:
        """Clicks a session, by 200,000 of them."""
        return float(self.play(shown, 200_000, 1)["click"].sum() / 200_000)

    def logs(self, folder: Path, sessions: int, seed: int) -> Dataset:
        """Logs of a policy that shows everything, the first items three times as often."""
        shown = np.tile([3.0, 3, 3, 1, 1, 1], (KINDS, 1)) / 12
        found = self.play(shown, sessions, seed)
        kind, item = found["kind"].astype(int), found["item"].astype(int)
        log(folder, "a.parquet", {
            "session": found["session"].astype(int),
            "time": found["step"].astype(int),
            "kind": np.array(["a", "b", "c"])[kind],
            "item": item,
            "propensity": shown[kind, item],
            "reward": found["click"],
        })  # fmt: skip
        return published(folder, COLUMNS)

    def policies(self) -> dict[str, ByKind]:
        """Alike, the best for each kind, and the worst."""
        likes = self.likes()
        best, worst = (np.eye(ITEMS)[one(axis=1)] for one in (likes.argmax, likes.argmin))
        return {"alike": ByKind(np.full((KINDS, ITEMS), 1 / ITEMS)), "best": ByKind(best),
                "worst": ByKind(worst)}  # fmt: skip
