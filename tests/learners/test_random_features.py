"""Learners of values where tastes bend along sums of columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.policies import AnyScorer, ScoringPolicy
from slateflow.trajectories import Dataset
from slateflow.user_models.session_memory import NOTHING, fitting_memory
from tests.trajectories.sources.shop import log, published, slates_table

ITEMS = 6
RECIPE = '[columns]\nuser = ["age", "income"]\nepisode = "session"\ntime = "time"\n'


@dataclass(frozen=True)
class WavyShop:
    """A shop that shows one of six items, whose users' tastes are waves.

    An item is liked by a sine of a sum of the user's two columns, which differs by item.

    Attributes:
        steps: Number of steps of a session.
    """

    steps: int

    def liked(self, user: np.ndarray) -> np.ndarray:
        """(R, 6) expected rewards for users (R, 2)."""
        angle = np.pi * np.arange(ITEMS) / ITEMS
        return np.sin(2.0 * (user @ [np.cos(angle), np.sin(angle)]) + np.arange(ITEMS))

    def logs(self, folder: Path, sessions: int, seed: int) -> Dataset:
        """Logs of a random policy."""
        rng = np.random.default_rng(seed)
        user = np.repeat(rng.normal(size=(sessions, 2)), self.steps, axis=0)
        item = rng.integers(0, ITEMS, len(user))
        worth = self.liked(user)[np.arange(len(user)), item]
        log(
            folder,
            "log.parquet",
            {
                "session": np.repeat(np.arange(sessions), self.steps),
                "time": np.arange(len(user)),
                "age": user[:, 0],
                "income": user[:, 1],
                "item": item,
                "propensity": np.full(len(user), 1 / ITEMS),
                "reward": worth + rng.normal(size=len(user)),
            },
        )
        return published(folder, RECIPE)

    def slates(self, folder: Path, rows: int, seed: int) -> Dataset:
        """Logs of three random items, of which users choose one or none."""
        rng = np.random.default_rng(seed)
        user = rng.normal(size=(rows, 2))
        slates = rng.random((rows, ITEMS)).argsort(axis=1)[:, :3]
        odds = np.take_along_axis(2 * self.liked(user) - 1, slates, axis=1)
        best = np.column_stack([odds, np.zeros(rows)]) + rng.gumbel(size=(rows, 4))
        clicked = best.argmax(axis=1)
        table = slates_table(slates, np.where(clicked == 3, -1, clicked), ITEMS)
        log(folder, "log.parquet", table | {"age": user[:, 0], "income": user[:, 1]})
        return published(folder, '[columns]\nuser = ["age", "income"]\nclicked = "clicked"\n')

    def score(self, scorer: AnyScorer, dataset: Dataset) -> float:
        """Expected rewards of a scorer, scaled to 0 for random and 1 for the best."""
        rows = dataset.read()
        first = np.flatnonzero(rows.step == 0)
        liked = self.liked(rows.user[first].astype(np.float64))
        slates, _ = ScoringPolicy(scorer).act(rows.observation(first), np.random.default_rng(0))
        found = rows.candidate_features(first)[np.arange(len(first)), slates[:, 0]].argmax(axis=1)
        shown = liked[np.arange(len(first)), found].mean()
        return float((shown - liked.mean()) / (liked.max(axis=1).mean() - liked.mean()))


@pytest.mark.parametrize("steps", [1, 4])
def test_fitted_q_follows_tastes_that_bend_along_a_sum(tmp_path, steps):
    shop = WavyShop(steps)
    dataset = shop.logs(tmp_path, 12_000 // steps, 1)
    scores = {
        learner: shop.score(train(dataset, learner_config(learner))[0], dataset)
        for learner in ("fitted-q", "linucb")
    }
    assert scores["fitted-q"] > 0.9
    assert scores["linucb"] < 0.6


def test_slateq_follows_tastes_that_bend_along_a_sum(tmp_path):
    """Scores are of the item in the first place."""
    shop = WavyShop(1)
    dataset = shop.slates(tmp_path, 12_000, 1)
    scores = {
        learner: shop.score(train(dataset, learner_config(learner))[0], dataset)
        for learner in ("slateq", "linucb")
    }
    assert scores["slateq"] > 0.8
    assert scores["linucb"] < 0.6


def test_tastes_that_bend_are_no_memory(tmp_path):
    """Past rewards would predict them if only products were compared."""
    assert fitting_memory(WavyShop(6).logs(tmp_path, 2_000, 1)) == NOTHING
