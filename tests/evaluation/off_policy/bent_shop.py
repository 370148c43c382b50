"""A shop whose users like items that suit their age: the taste for each item peaks at some age."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.policies import AnyScorer
from slateflow.trajectories import Dataset
from tests.evaluation.off_policy.shop import ByFirstPlace, BySlate
from tests.trajectories.sources.shop import first_liked, log, published

ITEMS = 6
YOUNGEST, OLDEST = 18.0, 80.0
PEAKS = 25.0 + 10.0 * np.arange(ITEMS)
"""Ages (M,) at which items are liked best."""
LEAST, MORE = 0.05, 0.5
"""Click rate of items that are not liked, and its increase at the peak."""
LEAVES = 0.25
"""Probability that a session ends after any step: the mean length is 4."""
LOOKS = (1.0, 0.6)
"""Probabilities of looking at the places of a slate; the first item that is liked is clicked."""
COLUMNS = '[columns]\nepisode = "session"\ntime = "time"\nuser = ["age"]\n'


class ByAge(ByFirstPlace):
    """Shows each user the item `shift` places after the best-liked one.

    The share `explores` of the choices is drawn at random.
    """

    def __init__(self, shift: int = 0, explores: float = 0.0) -> None:
        self.shift, self.explores = shift, explores

    def first_place(self, observation: Observation) -> NDArray[np.float64]:
        """Probabilities (B, M)."""
        return self.probabilities(observation["user"][:, 0].astype(np.float64))

    def probabilities(self, age: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, M) probabilities of showing each item to users of these ages (B,)."""
        best = np.abs(age[:, None] - PEAKS).argmin(axis=1)
        shown = np.eye(ITEMS)[(best + self.shift) % ITEMS]
        return (1 - self.explores) * shown + self.explores / ITEMS


class BestSlate(BySlate):
    """Shows each user the items that are liked best, the best first."""

    def shown(self, observation: Observation) -> NDArray[np.intp]:
        """Slates (B, K)."""
        return best_slates(observation["user"][:, 0].astype(np.float64))


def best_slates(age: NDArray[np.float64]) -> NDArray[np.intp]:
    """(B, K) the items whose peaks are nearest to these ages (B,)."""
    return np.abs(age[:, None] - PEAKS).argsort(axis=1, kind="stable")[:, : len(LOOKS)]


@dataclass(frozen=True)
class BentShop:
    """The shop.

    Attributes:
        spread: Years, the standard deviation of a taste around its peak; infinite where age does
            not matter, and 0 where tastes are linear in it.
    """

    spread: float

    def rates(self, age: NDArray[np.float64]) -> NDArray[np.float64]:
        """Click rates (…, M) of the items at these ages (…)."""
        if not self.spread:
            line = (age[..., None] - YOUNGEST) / (OLDEST - YOUNGEST)
            slopes = np.linspace(-1, 1, ITEMS)
            return LEAST + MORE * (0.5 + slopes * (line - 0.5))
        apart = (age[..., None] - PEAKS) / self.spread
        return LEAST + MORE * np.exp(-0.5 * apart**2)

    def value(self, policy: ByAge) -> float:
        """Clicks per session, by quadrature over the ages."""
        age = np.linspace(YOUNGEST, OLDEST, 100_001)
        clicks = (policy.probabilities(age) * self.rates(age)).sum(axis=1)
        return float(clicks.mean()) / LEAVES

    def score(self, scorer: AnyScorer, dataset: Dataset) -> float:
        """Score of a learner's choices, by quadrature over the ages: 0 is random, 1 the best."""
        age = np.linspace(YOUNGEST, OLDEST, 2_001)
        assert dataset.catalogue is not None
        rates, items = self.rates(age), dataset.catalogue.features
        offered = np.broadcast_to(items, (len(age), *items.shape))
        rated = scorer.scores(age[:, None], np.zeros(len(age), np.int32), offered)
        paid = np.take_along_axis(rates, rated.argmax(axis=1)[:, None], axis=1).mean()
        return float((paid - rates.mean()) / (rates.max(axis=1).mean() - rates.mean()))

    def logs(self, folder: Path, sessions: int, seed: int, explores: float = 1.0) -> Dataset:
        """Sessions of the policy that knows the tastes, with a share of random choices."""
        rng, policy = np.random.default_rng(seed), ByAge(explores=explores)
        lengths = rng.geometric(LEAVES, sessions)
        session = np.repeat(np.arange(sessions), lengths)
        ages = rng.uniform(YOUNGEST, OLDEST, sessions)[session]
        probability = policy.probabilities(ages)
        drawn = rng.random(len(ages))[:, None] > np.cumsum(probability, axis=1)
        item = np.minimum(drawn.sum(axis=1), ITEMS - 1)[:, None]
        rate = np.take_along_axis(self.rates(ages), item, axis=1)[:, 0]
        table: dict[str, Any] = {
            "session": session,
            "time": np.arange(len(ages)) - np.repeat(np.cumsum(lengths) - lengths, lengths),
            "item": item[:, 0],
            "propensity": np.take_along_axis(probability, item, axis=1)[:, 0],
            "reward": (rng.random(len(ages)) < rate).astype(np.int64),
            "age": ages,
        }
        folder.mkdir(parents=True, exist_ok=True)
        log(folder, "log.parquet", table)
        return published(folder, COLUMNS)

    def value_of_best_slates(self) -> float:
        """Clicks per slate, by quadrature over the ages."""
        age = np.linspace(YOUNGEST, OLDEST, 100_001)
        rates = np.take_along_axis(self.rates(age), best_slates(age), axis=1)
        return float(1 - np.prod(1 - rates * LOOKS, axis=1).mean())

    def slates(self, folder: Path, rows: int, seed: int) -> Dataset:
        """Single slates of a random policy."""
        rng = np.random.default_rng(seed)
        age = rng.uniform(YOUNGEST, OLDEST, rows)
        shown = rng.random((rows, ITEMS)).argsort(axis=1)[:, : len(LOOKS)]
        rates = np.take_along_axis(self.rates(age), shown, axis=1)
        likes = rng.random(rates.shape) < rates * LOOKS
        clicked = first_liked(likes)
        table: dict[str, Any] = {
            "item": shown.tolist(),
            "propensity": np.full(rows, 1 / (ITEMS * (ITEMS - 1))),
            "clicked": clicked,
            "reward": (clicked >= 0).astype(np.int64),
            "age": age,
        }
        folder.mkdir(parents=True, exist_ok=True)
        log(folder, "log.parquet", table)
        return published(folder, '[columns]\nclicked = "clicked"\nuser = ["age"]\n')
