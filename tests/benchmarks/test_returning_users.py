"""Intervals where the same users come back, each with a mood and tastes that no column tells.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from tests.benchmarks.held_intervals import Judged, of_logs, print_held
from tests.evaluation.off_policy.shop import Shows
from tests.trajectories.sources.shop import log, published

Array = NDArray[np.float64]

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "100"))
KINDS, ITEMS, ROWS = 3, 6, 8_000
BEST = 2 * np.arange(KINDS)
"""The item that users of each kind like best."""


def clicks(rng: np.random.Generator, kind: NDArray[np.intp]) -> Array:
    """(U, M) probabilities with which users of these kinds (U,) click the items."""
    log_odds = np.full((KINDS, ITEMS), -1.5)
    log_odds[np.arange(KINDS), BEST] = 0.0
    mood, taste = rng.normal(size=(len(kind), 1)), rng.normal(0, 0.7, (len(kind), ITEMS))
    return np.asarray(1 / (1 + np.exp(-(log_odds[kind] + mood + taste))))


def verdicts(visits: int, known: bool, seed: int) -> Judged:
    """Those of a log of a random policy, in which each user comes so often, and is known again."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, ROWS // visits)
    user, item = np.repeat(np.arange(len(kind)), visits), rng.integers(0, ITEMS, ROWS)
    reward = rng.random(ROWS) < clicks(rng, kind)[user, item]
    table = {
        "item": item,
        "propensity": np.full(ROWS, 1 / ITEMS),
        "reward": reward.astype(np.int64),
        "kind": np.array(["a", "b", "c"])[kind[user]],
        "who": user,
    }
    columns = '[columns]\nuser = ["kind"]\n' + ('visitor = "who"\n' if known else "")
    with TemporaryDirectory() as folder:
        log(Path(folder), "log.parquet", table)
        dataset = published(Path(folder), columns)
        targets = {"random": RandomPolicy(1), "the best": Shows(np.eye(ITEMS)[BEST])}
        found = estimate_policies(dataset, targets, held_out_only=False).policies
    judged = {name: one.contributions for name, one in found.items()}
    judged["uplift"] = judged["the best"] - judged["random"]
    refused = any(one.refusal is not None for one in found.values())
    return {name: (one.value, *one.interval(), refused) for name, one in judged.items()}


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("visits", [1, 5, 20, 100, 200])
def test_returning_users(visits, known, capsys):
    """Print how often intervals hold."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, KINDS, 400_000)
    likes = clicks(rng, kind)
    truth = {"random": likes.mean(), "the best": likes[np.arange(len(kind)), BEST[kind]].mean()}
    truth["uplift"] = truth["the best"] - truth["random"]
    found = of_logs(partial(verdicts, visits, known), range(LOGS))
    with capsys.disabled():
        who = "known" if known else "not known"
        print(f"\neach comes {visits} times, {who} again; {LOGS} logs of {ROWS:,} decisions")
        print_held(found, truth, digits=4)
