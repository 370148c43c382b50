"""Verdicts where tastes peak at an age, by how narrowly they do.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_SESSIONS` is their size.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from tests.benchmarks.held_intervals import Judged, judged, print_held
from tests.evaluation.off_policy.bent_shop import BentShop, ByAge

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "4000"))
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
