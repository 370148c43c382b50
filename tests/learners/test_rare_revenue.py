"""Revenue that is mostly 0, of many sizes: what docs/learning.md advises to learn from."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset
from tests.trajectories.sources.shop import log, published

SEGMENTS, SUBJECTS, MAILS = 12, 5, 20_000
TASTES = np.random.default_rng(1).normal(size=(SEGMENTS, SUBJECTS))
BUYS = np.minimum(0.05 * np.exp(0.5 * TASTES), 0.5)  # (SEGMENTS, SUBJECTS)
"""Probability of an order, whose amount is the same for all subjects."""


def mails(seed: int) -> pd.DataFrame:
    """Logs of random subjects; one mail in 19 earns something, of a log-normal amount."""
    rng = np.random.default_rng(seed)
    segment, subject = rng.integers(0, SEGMENTS, MAILS), rng.integers(0, SUBJECTS, MAILS)
    bought = rng.random(MAILS) < BUYS[segment, subject]
    return pd.DataFrame(
        {
            "segment": [f"s{number:02}" for number in segment],
            "item": subject,
            "propensity": 1 / SUBJECTS,
            "bought": bought,
            "revenue": np.where(bought, rng.lognormal(3.0, 1.0, MAILS), 0.0),
        }
    )


def score(dataset: Dataset) -> float:
    """What LinUCB reaches: 0 is random, 1 the best subject for each segment."""
    scorer, _ = train(dataset, learner_config("linucb"))
    assert dataset.catalogue is not None
    items = dataset.catalogue.features
    everyone = np.eye(SEGMENTS, dtype=np.float32)
    offered = np.broadcast_to(items, (SEGMENTS, *items.shape))
    best = scorer.scores(everyone, np.zeros(SEGMENTS, np.int64), offered).argmax(axis=1)
    chosen = BUYS[np.arange(SEGMENTS), best].mean()
    return float((chosen - BUYS.mean()) / (BUYS.max(axis=1).mean() - BUYS.mean()))


@pytest.mark.slow
def test_whether_there_was_an_order_teaches_more_than_its_amount(tmp_path):
    scores: dict[str, list[float]] = {"revenue": [], "bought": []}
    for seed, (reward, found) in product(range(4), scores.items()):
        folder = tmp_path / f"{reward}-{seed}"
        log(folder, "a.parquet", mails(seed).to_dict("list"))
        text = f'[columns]\nuser = ["segment"]\nreward = "{reward}"\n'
        found.append(score(published(folder, text)))
    assert np.mean(scores["revenue"]) == pytest.approx(0.63, abs=0.02)
    assert np.mean(scores["bought"]) == pytest.approx(0.83, abs=0.02)
