"""Learners and verdicts where tastes peak at an age, by the width of the peaks.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_SESSIONS` is their size, and
`SLATEFLOW_BENCHMARK_LEARNERS` has other learners.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from tests.benchmarks.held_intervals import Judged, judged, of_logs, print_held
from tests.evaluation.off_policy.bent_shop import BentShop, ByAge

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "4000"))
LEARNERS = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "fitted-q,cql,iql,logistic,linucb").split(
    ","
)
SEEDS = range(int(os.environ.get("SLATEFLOW_BENCHMARK_SEEDS", "5")))
TARGETS = {"random": ByAge(explores=1.0), "the best": ByAge(), "the next": ByAge(1)}


pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(7_200),
    pytest.mark.parametrize("explores", [1.0, 0.3]),
    pytest.mark.parametrize("spread", [5.0, 10.0, 20.0]),
]


def verdicts(shop: BentShop, explores: float, seed: int) -> Judged:
    """Verdicts of a log."""
    return judged(lambda folder: shop.logs(folder, SESSIONS, seed, explores), TARGETS)


def test_tastes_that_peak(spread, explores, capsys):
    """Print how often there are verdicts, and how often they hold."""
    shop = BentShop(spread)
    found = of_logs(partial(verdicts, shop, explores), range(LOGS))
    with capsys.disabled():
        print(f"\n± {spread:g} years, {explores:.0%} random: {LOGS} logs of {SESSIONS:,} sessions")
        print_held(found, {name: shop.value(one) for name, one in TARGETS.items()}, digits=3)


def scores(shop: BentShop, explores: float, seed: int) -> list[float]:
    """Scores of learners from a log."""
    with TemporaryDirectory() as folder:
        dataset = shop.logs(Path(folder), SESSIONS, seed, explores)
        trained = (train(dataset, learner_config(learner), seed)[0] for learner in LEARNERS)
        return [shop.score(scorer, dataset) for scorer in trained]


def test_learners_of_tastes_that_peak(spread, explores, capsys):
    """Print the least and the median score over the seeds."""
    found = of_logs(partial(scores, BentShop(spread), explores), SEEDS)
    with capsys.disabled():
        print(f"\n± {spread:g} years, {explores:.0%} random: {len(SEEDS)} logs of {SESSIONS:,}")
        for learner, values in zip(LEARNERS, zip(*found, strict=True), strict=True):
            print(f"{learner:10} {min(values):.3f} {np.median(values):.3f}")
