"""Verdicts where tastes peak at an age, by how narrowly they do.

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

from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.evaluation.off_policy.bent_shop import BentShop, ByAge

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "4000"))
TARGETS = {"random": ByAge(explores=1.0), "the best": ByAge(), "the next": ByAge(1)}


def judged(shop: BentShop, explores: float, seed: int) -> dict[str, tuple[float, ...]]:
    """Estimate, interval, and whether it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = shop.logs(Path(folder), SESSIONS, seed, explores)
        found = estimate_policies(dataset, TARGETS, held_out_only=False).policies
    return {
        name: (one.contributions.value, *one.contributions.interval(), one.refusal is not None)
        for name, one in found.items()
    }


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("explores", [1.0, 0.3])
@pytest.mark.parametrize("spread", [5.0, 10.0, 20.0])
def test_tastes_that_peak(spread, explores, capsys):
    """Print how often verdicts are given, and how often those hold."""
    shop = BentShop(spread)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(partial(judged, shop, explores), range(LOGS)))
    with capsys.disabled():
        print(f"\n± {spread:g} years, {explores:.0%} random: {LOGS} logs of {SESSIONS:,} sessions")
        print("policy        true  refused  estimate    held     ±")
        for name, target in TARGETS.items():
            every, value = np.array([log[name] for log in found]), shop.value(target)
            one, text = every[every[:, 3] == 0], ""
            if len(one):
                held = ((one[:, 1] <= value) & (value <= one[:, 2])).mean()
                half = np.median(one[:, 2] - one[:, 1]) / 2
                text = f"{one[:, 0].mean():9.3f} {held:7.2f} {half:6.3f}"
            print(f"{name:10} {value:7.3f} {every[:, 3].mean():8.2f} {text}")
