"""Sessions in a shop whose users tire of items they have just seen; no column shows how tired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slateflow.policies import Scorer
from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import ByKind
from tests.trajectories.sources.shop import log, published

KINDS, ITEMS = 3, 6
FADES = 0.8
"""Share of the tiredness that remains a step later."""
LEAVES = (0.12, 0.03)
"""Probability that a session ends after a step without a click, and after one with a click."""
COLUMNS = '[columns]\nepisode = "session"\ntime = "time"\nuser = ["kind"]\n'


class Chooser(Protocol):
    """Chooses items in the middle of sessions."""

    def probabilities(self, kind: NDArray[Any], lanes: NDArray[Any]) -> NDArray[np.float64]:
        """(A, M) probabilities of showing each item to users of these kinds, in these sessions."""

    def remember(self, lanes: NDArray[Any], item: NDArray[Any], click: NDArray[Any]) -> None:
        """Note the items shown in these sessions, and those clicked."""


class WithoutMemory(ByKind):
    """Shows items by the kind of user, ignoring the session so far."""

    def probabilities(self, kind: NDArray[Any], lanes: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities by kind."""
        del lanes
        return np.asarray(self.shown[kind])

    def remember(self, lanes: NDArray[Any], item: NDArray[Any], click: NDArray[Any]) -> None:
        """Nothing."""


@dataclass
class Learnt:
    """A scorer with its memory of a number of sessions."""

    scorer: Scorer
    sessions: int
    memory: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.memory = np.zeros((self.sessions, self.scorer.memory_size))

    def probabilities(self, kind: NDArray[Any], lanes: NDArray[Any]) -> NDArray[np.float64]:
        """1 for the best item."""
        items = self.scorer.document_size
        every = np.broadcast_to(np.eye(items), (len(kind), items, items))
        user, steps = np.eye(KINDS)[kind], np.zeros(len(kind), np.int64)
        scores = self.scorer.scores(user, steps, every, self.memory[lanes])
        return np.asarray(np.eye(items)[scores.argmax(axis=1)])

    def remember(self, lanes: NDArray[Any], item: NDArray[Any], click: NDArray[Any]) -> None:
        """A step."""
        if self.memory.size:
            shown, first = np.eye(self.scorer.document_size)[item], np.zeros(len(item), np.int64)
            self.memory[lanes] = self.scorer.remember(
                self.memory[lanes], np.zeros((len(item), KINDS)), shown[:, None], first, click
            )


@dataclass(frozen=True)
class TiredShop:
    """Users who like an item less by `tiredness`, in log-odds, each time they have seen it."""

    tiredness: float
    items: int = ITEMS

    @property
    def taste(self) -> NDArray[np.float64]:
        """Log-odds (3, M) of a click by kind of user."""
        return np.random.default_rng(5).normal(-1.5, 1.0, (KINDS, self.items))

    def policies(self) -> dict[str, WithoutMemory]:
        """Rules that know the tastes."""
        order = np.argsort(-self.taste, axis=1)
        shown = np.eye(self.items)[order]  # (3, M, M), the best first
        return {
            "the best": WithoutMemory(shown[:, 0]),
            "the best two": WithoutMemory(shown[:, :2].mean(axis=1)),
            "the worst": WithoutMemory(shown[:, -1]),
        }

    def random(self) -> WithoutMemory:
        """The uniform policy."""
        return WithoutMemory(np.full((KINDS, self.items), 1 / self.items))

    def steps(self, policy: Chooser, sessions: int, seed: int) -> Iterator[dict[str, NDArray[Any]]]:
        """The steps of all continuing sessions, one after the other."""
        rng = np.random.default_rng(seed)
        kinds, lanes = rng.integers(0, KINDS, sessions), np.arange(sessions)
        tired, time = np.zeros((sessions, self.items)), 0
        while len(lanes):
            kind = kinds[lanes]
            probability = policy.probabilities(kind, lanes)
            drawn = rng.random(len(lanes))[:, None] > np.cumsum(probability, axis=1)
            item = np.minimum(drawn.sum(axis=1), self.items - 1)
            odds = self.taste[kind, item] - self.tiredness * tired[lanes, item]
            click = rng.random(len(lanes)) < 1 / (1 + np.exp(-odds))
            policy.remember(lanes, item, click.astype(np.float64))
            yield {
                "session": lanes,
                "time": np.full(len(lanes), time),
                "kind": kind,
                "item": item,
                "propensity": np.take_along_axis(probability, item[:, None], axis=1)[:, 0],
                "reward": click.astype(np.int64),
            }
            tired[lanes] *= FADES
            tired[lanes, item] += 1
            lanes = lanes[rng.random(len(lanes)) >= np.where(click, LEAVES[1], LEAVES[0])]
            time += 1

    def logs(self, folder: Path, sessions: int, seed: int) -> Dataset:
        """Sessions of the random policy as a published dataset."""
        steps = list(self.steps(self.random(), sessions, seed))
        table = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
        table["kind"] = np.array(["a", "b", "c"])[table["kind"]]
        folder.mkdir(parents=True, exist_ok=True)
        log(folder, "log.parquet", table)
        return published(folder, COLUMNS)

    def value(self, policy: Chooser, sessions: int = 50_000) -> float:
        """Clicks per session."""
        return sum(step["reward"].sum() for step in self.steps(policy, sessions, 99)) / sessions


def slates_seen(
    tiredness: float, folder: Path, sessions: int, seed: int, column: bool = False
) -> Dataset:
    """Sessions of random slates of two: users choose one item or none, and tire of both.

    Optionally, a column shows how tired they are.
    """
    rng, shop = np.random.default_rng(seed), TiredShop(tiredness)
    kinds, lanes = rng.integers(0, KINDS, sessions), np.arange(sessions)
    tired, steps = np.zeros((sessions, ITEMS)), []
    while len(lanes):
        kind, slates = kinds[lanes], rng.random((len(lanes), ITEMS)).argsort(axis=1)[:, :2]
        odds = shop.taste[kind[:, None], slates]
        odds -= tiredness * np.take_along_axis(tired[lanes], slates, axis=1)
        best = np.column_stack([odds, np.zeros(len(lanes))]) + rng.gumbel(size=(len(lanes), 3))
        clicked = np.where(best.argmax(axis=1) == 2, -1, best.argmax(axis=1))
        before = tired[lanes]
        steps.append((lanes, np.full(len(lanes), len(steps)), kind, slates, clicked, before))
        tired[lanes] *= FADES
        for item in slates.T:
            tired[lanes, item] += 1
        leaves = rng.random(len(lanes)) < np.where(clicked >= 0, LEAVES[1], LEAVES[0])
        lanes = lanes[~leaves]
    session, time, kind, slates, clicked, seen = (
        np.concatenate(one) for one in zip(*steps, strict=True)
    )
    table = {
        "session": session,
        "time": time,
        "kind": np.array(["a", "b", "c"])[kind],
        "item": slates.tolist(),
        "propensity": np.full(len(kind), 1 / (ITEMS * (ITEMS - 1))),
        "clicked": clicked,
        "reward": (clicked >= 0).astype(np.int64),
    }
    columns = f'{COLUMNS}clicked = "clicked"\n'
    if column:
        table["seen"] = seen.tolist()
        columns = columns.replace('["kind"]', '["kind", "seen"]')
    folder.mkdir(parents=True, exist_ok=True)
    log(folder, "log.parquet", table)
    return published(folder, columns)
