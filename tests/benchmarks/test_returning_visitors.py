"""Intervals where visitors come back, each with a mood and tastes that no column tells.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.benchmarks.held_intervals import Judged, of_logs, print_held
from tests.evaluation.off_policy.returning_visitors import TARGETS, ReturningVisitors

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "100"))
ROWS = 8_000


def verdicts(shop: ReturningVisitors, known: bool, seed: int) -> Judged:
    """Verdicts of a log of a random policy, in which visitors are known again, or not."""
    with TemporaryDirectory() as folder:
        column = 'visitor = "who"' if known else ""
        dataset = shop.logs(Path(folder), ROWS // shop.visits, seed, column)
        found = estimate_policies(dataset, TARGETS, held_out_only=False).policies
    judged = {name: one.contributions for name, one in found.items()}
    judged["uplift"] = judged["the best"] - judged["random"]
    refused = any(one.refusal is not None for one in found.values())
    return {name: (one.value, *one.interval(), refused) for name, one in judged.items()}


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "shop",
    [
        *(ReturningVisitors(visits) for visits in (1, 5, 20, 100, 200)),
        *(ReturningVisitors(*one) for one in ((5, 0.5), (20, 0.8), (20, 0.5))),
        *(ReturningVisitors(visits, keeps=True) for visits in (5, 20)),
    ],
    ids=lambda shop: f"{shop.visits}-{shop.left:g}{'-kept' * shop.keeps}",
)
def test_returning_visitors(shop, known, capsys):
    """Print how often intervals hold."""
    truth = shop.values()
    truth["uplift"] = truth["the best"] - truth["random"]
    found = of_logs(partial(verdicts, shop, known), range(LOGS))
    with capsys.disabled():
        who = "known" if known else "not known"
        print(f"\n{shop}, {who} again")
        print(f"{LOGS} logs of {ROWS:,} decisions")
        print_held(found, truth, digits=4)
