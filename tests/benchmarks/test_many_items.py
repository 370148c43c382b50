"""Shops of many items with nothing but ids: learners' scores, and seconds.

`SLATEFLOW_BENCHMARK_ROWS` is the number of logged decisions, `SLATEFLOW_BENCHMARK_LEARNERS` has the
learners.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, learners_for, train
from slateflow.policies import RandomPolicy
from slateflow.policies.learned import ScoringPolicy
from tests.trajectories.sources.shop import log, published

ROWS = int(os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "100000"))
KINDS = 20
LEARNERS = os.environ.get(
    "SLATEFLOW_BENCHMARK_LEARNERS", "linucb,lints,logistic,fitted-q,bc,marwil,cql,iql"
).split(",")


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("items", [100, 500, 2_000])
def test_many_items(items, tmp_path, capsys):
    """Print scores, 0 random and 1 the best for each kind of users, and seconds."""
    rng = np.random.default_rng(0)
    odds = rng.normal(-3, 1, items) + rng.normal(0, 0.7, (KINDS, items))
    likes = 1 / (1 + np.exp(-odds))
    kind, item = rng.integers(0, KINDS, ROWS), rng.integers(0, items, ROWS)
    log(tmp_path, "log.parquet", {
        "kind": np.array([f"k{one:02d}" for one in range(KINDS)])[kind],
        "item": item,
        "propensity": np.full(ROWS, 1 / items),
        "reward": (rng.random(ROWS) < likes[kind, item]).astype(np.int64),
    })  # fmt: skip
    dataset = published(tmp_path, '[columns]\nuser = ["kind"]\n')
    names = [int(one) for one in dataset.encoding.items]
    truth = likes[:, names]
    worst, best = truth.mean(), truth.max(axis=1).mean()
    popular = (truth.mean(axis=0).max() - worst) / (best - worst)
    lines = [f"{items} items, {ROWS:,} decisions; the most popular item scores {popular:.3f}"]
    for name in LEARNERS:
        if name not in learners_for(dataset.spec):
            lines.append(f"| {name} | | too many items | |")
            continue
        start = time.perf_counter()
        scorer, _ = train(dataset, learner_config(name))
        took = time.perf_counter() - start
        policy = ScoringPolicy(scorer)
        slates = policy.act(_observation(dataset), np.random.default_rng(0))[0]
        score = (truth[np.arange(KINDS), slates[:, 0]].mean() - worst) / (best - worst)
        start = time.perf_counter()
        estimate_policies(dataset, {"it": policy, "random": RandomPolicy(1)}, held_out_only=True)
        judged = time.perf_counter() - start
        lines.append(f"| {name} | {score:.3f} | {took:.1f} | {judged:.1f} |")
    with capsys.disabled():
        print("\n" + "\n".join([lines[0], "| learner | score | s to train | s to judge |",
                                "|---" * 4 + "|", *lines[1:]]))  # fmt: skip


def _observation(dataset):
    """A user of each kind, with all items on offer."""
    features = dataset.catalogue.features
    return {
        "user": np.eye(KINDS, dtype=np.float32),
        "candidates": np.broadcast_to(features, (KINDS, *features.shape)),
        "step": np.zeros((KINDS, 1), np.int32),
    }
