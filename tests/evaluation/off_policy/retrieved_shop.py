"""A shop that offers ten items at a time, whose users click by quality and topic, in log-odds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import ByFirstPlace
from tests.trajectories.sources.shop import log, published

KINDS, ITEMS, OFFERED, MOST_STEPS = 6, 60, 10, 5
EXPLORES = 0.3
"""Share of random logged choices; the others show the best quality."""
RECIPE = """[columns]
episode = "session"
time = "time"
user = ["kind"]
candidates = "offered"
[items]
file = "items.csv"
features = ["quality", "topic"]
"""


@dataclass(frozen=True)
class ByWeights(ByFirstPlace):
    """Shows the item with the largest weighted sum of quality and match with the user's topic."""

    quality: float
    topic: float
    explores: float = 0.0

    def first_place(self, observation: Observation) -> NDArray[np.float64]:
        """Probabilities (B, N)."""
        quality, topics = observation["candidates"][:, :, 0], observation["candidates"][:, :, 1:]
        fits = np.einsum("bk,bnk->bn", observation["user"], topics)
        best = (self.quality * quality + self.topic * fits).argmax(axis=1)
        return (1 - self.explores) * np.eye(OFFERED)[best] + self.explores / OFFERED


POLICIES = {
    "random": ByWeights(0.0, 0.0, 1.0),
    "quality": ByWeights(1.0, 0.0),
    "what fits": ByWeights(1.0, 1.0),
    "topic first": ByWeights(0.3, 1.0),
}


class RetrievedShop:
    """Sessions of one to five steps, whatever is shown."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.topic = np.arange(ITEMS) % KINDS
        self.quality = rng.normal(0, 0.6, ITEMS).round(3)

    def contexts(self, rows: int, rng: np.random.Generator):
        """Kinds (R,), and numbers of offered items (R, N)."""
        kind = rng.integers(0, KINDS, rows)
        offered = np.argsort(rng.random((rows, ITEMS)), axis=1)[:, :OFFERED]
        return kind, offered

    def likes(self, kind: NDArray[np.intp], item: NDArray[np.intp]) -> NDArray[np.float64]:
        """Probabilities of clicks by kinds (R, 1) on items (R, N)."""
        fits = self.topic[item] == kind
        return np.asarray(1 / (1 + np.exp(2.5 - 1.5 * (self.quality[item] + fits))))

    def shown(self, policy: ByWeights, kind: NDArray[np.intp], offered: NDArray[np.intp]):
        """(R, N) probabilities with which a policy shows the items."""
        topics = np.eye(KINDS)[self.topic[offered]]
        candidates = np.concatenate([self.quality[offered][:, :, None], topics], axis=2)
        return policy.first_place({"user": np.eye(KINDS)[kind], "candidates": candidates})

    def value(self, policy: ByWeights, rows: int = 200_000) -> float:
        """Clicks per session: those per step × the mean length."""
        kind, offered = self.contexts(rows, np.random.default_rng(1))
        shown = self.shown(policy, kind, offered) * self.likes(kind[:, None], offered)
        return float(shown.sum(axis=1).mean() * (1 + MOST_STEPS) / 2)

    def logs(self, folder: Path, sessions: int, seed: int) -> Dataset:
        """Logs of a policy that shows the best quality, and explores."""
        rng = np.random.default_rng(seed)
        lengths = rng.integers(1, MOST_STEPS + 1, sessions)
        session = np.repeat(np.arange(sessions), lengths)
        kind, offered = self.contexts(len(session), rng)
        kind = kind[session]  # that of a session's first row
        shown = self.shown(ByWeights(1.0, 0.0, EXPLORES), kind, offered)
        drawn = rng.random((len(session), 1)) > shown.cumsum(axis=1)
        place = np.minimum(drawn.sum(axis=1), OFFERED - 1)
        row = np.arange(len(session))
        item = offered[row, place]
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{one},{self.quality[one]},t{self.topic[one]}" for one in range(ITEMS)]
        (folder / "items.csv").write_text("\n".join(["item,quality,topic", *lines]) + "\n")
        liked = self.likes(kind[:, None], item[:, None])[:, 0]
        log(folder, "log.parquet", {
            "session": session,
            "time": row,
            "kind": np.array([f"k{one}" for one in range(KINDS)])[kind],
            "item": item,
            "offered": offered.tolist(),
            "propensity": shown[row, place],
            "reward": (rng.random(len(row)) < liked).astype(np.int64),
        })  # fmt: skip
        return published(folder, RECIPE)
