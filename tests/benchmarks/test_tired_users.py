"""Verdicts and learners where users tire of what they have seen, and no column tells.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_SESSIONS` is their size.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from tests.evaluation.off_policy.tired_shop import Learnt, TiredShop

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "20"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "5000"))
LEARNERS = ("linucb", "fitted-q")
PLAYED = 400_000


def judged(shop: TiredShop, targets: dict[str, Target], seed: int) -> dict[str, tuple[float, ...]]:
    """Estimate, interval, and whether it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = shop.logs(Path(folder), SESSIONS, seed)
        found = estimate_policies(dataset, targets, held_out_only=False).policies
    return {
        name: (one.contributions.value, *one.contributions.interval(), one.refusal is not None)
        for name, one in found.items()
    }


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("tiredness", [0.0, 0.3, 0.7, 1.5])
def test_users_who_tire(tiredness, tmp_path, capsys):
    """Print how often verdicts are given, how often those hold, and what learners reach."""
    shop = TiredShop(tiredness)
    logged = shop.logs(tmp_path, SESSIONS, 1_000)
    targets: dict[str, Target] = {"all alike": shop.random(), **shop.policies()}
    truth = {name: shop.value(policy, PLAYED) for name, policy in targets.items()}
    for learner in LEARNERS:
        scorer = train(logged, learner_config(learner))[0]
        targets[learner] = ScoringPolicy(scorer)
        truth[learner] = shop.value(Learnt(scorer, PLAYED), PLAYED)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(partial(judged, shop, targets), range(LOGS)))
    with capsys.disabled():
        print(f"\ntired by {tiredness}: {LOGS} logs of {SESSIONS:,} sessions of the random policy")
        print("policy          true  refused  estimate     held    ±")
        for name, value in truth.items():
            every = np.array([log[name] for log in found])
            one = every[every[:, 3] == 0]
            text = ""
            if len(one):
                held = ((one[:, 1] <= value) & (value <= one[:, 2])).mean()
                half = np.median(one[:, 2] - one[:, 1]) / 2
                text = f"{one[:, 0].mean():9.2f} {held:8.2f} {half:5.2f}"
            print(f"{name:13} {value:6.2f} {every[:, 3].mean():8.2f} {text}")
