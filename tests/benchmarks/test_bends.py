"""Learners and verdicts where tastes peak at an age, by how narrowly they do.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_SESSIONS` is their size, and
`SLATEFLOW_BENCHMARK_LEARNERS` names other learners.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from tests.benchmarks.held_intervals import Judged, judged, print_held
from tests.evaluation.off_policy.bent_shop import OLDEST, YOUNGEST, BentShop, ByAge

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "4000"))
LEARNERS = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "fitted-q,cql,iql,logistic,linucb")
SEEDS = range(int(os.environ.get("SLATEFLOW_BENCHMARK_SEEDS", "5")))
TARGETS = {"random": ByAge(explores=1.0), "the best": ByAge(), "the next": ByAge(1)}


def verdicts(shop: BentShop, explores: float, seed: int) -> Judged:
    """Those of a log."""
    return judged(lambda folder: shop.logs(folder, SESSIONS, seed, explores), TARGETS)


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("explores", [1.0, 0.3])
@pytest.mark.parametrize("spread", [5.0, 10.0, 20.0])
def test_tastes_that_peak(spread, explores, capsys):
    """Print how often verdicts are given, and how often those hold."""
    shop = BentShop(spread)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(partial(verdicts, shop, explores), range(LOGS)))
    with capsys.disabled():
        print(f"\n± {spread:g} years, {explores:.0%} random: {LOGS} logs of {SESSIONS:,} sessions")
        print_held(found, {name: shop.value(one) for name, one in TARGETS.items()}, digits=3)


def scores(shop: BentShop, explores: float, seed: int) -> dict[str, float]:
    """Of each learner from a log: 0 is random and 1 the best, by quadrature over the ages."""
    age = np.linspace(YOUNGEST, OLDEST, 2_001)
    rates, found = shop.rates(age), {}
    with TemporaryDirectory() as folder:
        dataset = shop.logs(Path(folder), SESSIONS, seed, explores)
        assert dataset.catalogue is not None
        items = np.broadcast_to(dataset.catalogue.features, (len(age), *rates.shape[1:], 6))
        for learner in LEARNERS.split(","):
            scorer, _ = train(dataset, learner_config(learner), seed)
            chosen = scorer.scores(age[:, None], np.zeros(len(age), np.int32), items).argmax(axis=1)
            paid = np.take_along_axis(rates, chosen[:, None], axis=1).mean()
            worst, best = rates.mean(), rates.max(axis=1).mean()
            found[learner] = float((paid - worst) / (best - worst))
    return found


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("explores", [1.0, 0.3])
@pytest.mark.parametrize("spread", [5.0, 10.0, 20.0])
def test_learners_of_tastes_that_peak(spread, explores, capsys):
    """Print scores, the least and the median of the seeds."""
    shop = BentShop(spread)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(partial(scores, shop, explores), SEEDS))
    with capsys.disabled():
        print(f"\n± {spread:g} years, {explores:.0%} random: {len(SEEDS)} logs of {SESSIONS:,}")
        for learner in found[0]:
            values = [one[learner] for one in found]
            print(f"{learner:10} {min(values):.3f} {np.median(values):.3f}")
