"""Verdicts from slates whose items bear on each other.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_ROWS` is their size.
"""

from __future__ import annotations

import os
from functools import partial

import pytest

from slateflow.policies import RandomPolicy
from tests.benchmarks.held_intervals import Judged, judged, of_logs, print_held
from tests.evaluation.off_policy.alike_shop import EFFECTS, PLACES, POLICIES, AlikeShop

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "20"))
ROWS = int(os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "10000"))


def verdicts(shop: AlikeShop, seed: int) -> Judged:
    """Those of a log."""
    targets = {"random": RandomPolicy(PLACES), **POLICIES}
    return judged(lambda folder: shop.slates(folder, ROWS, seed), targets)


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("effect", EFFECTS)
def test_alike_items(effect, capsys):
    """Print how often verdicts are given and hold."""
    shop = AlikeShop(effect)
    found = of_logs(partial(verdicts, shop), range(LOGS))
    with capsys.disabled():
        print(f"\nothers of the kind bore: {effect}; {LOGS} logs of {ROWS:,} slates")
        print_held(found, shop.values(), digits=3)
