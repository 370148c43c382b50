"""Verdicts on sessions whose users click by sums of log-odds, with items from a first stage.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_SESSIONS` is their size.
"""

from __future__ import annotations

import os

import pytest

from tests.benchmarks.held_intervals import Judged, judged, of_logs, print_held
from tests.evaluation.off_policy.retrieved_shop import POLICIES, RetrievedShop

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "6000"))


def verdicts(seed: int) -> Judged:
    """Verdicts of a log."""
    return judged(lambda folder: RetrievedShop().logs(folder, SESSIONS, seed), POLICIES)


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
def test_retrieved_sessions(capsys):
    """Print how often there are verdicts, and how often they hold."""
    shop = RetrievedShop()
    truth = {name: shop.value(policy) for name, policy in POLICIES.items()}
    found = of_logs(verdicts, range(LOGS))
    with capsys.disabled():
        print(f"\nten of sixty items on offer: {LOGS} logs of {SESSIONS:,} sessions")
        print_held(found, truth, digits=3)
