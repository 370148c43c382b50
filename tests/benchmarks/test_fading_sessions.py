"""Verdicts where the number of the step affects ends of sessions and clicks.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_SESSIONS` is their size.
"""

from __future__ import annotations

import os
from functools import partial

import pytest

from tests.benchmarks.held_intervals import Judged, judged, of_logs, print_held
from tests.evaluation.off_policy.fading_shop import SHOPS

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "100"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "2000"))


def verdicts(title: str, seed: int) -> Judged:
    """Verdicts of a log."""
    shop = SHOPS[title]
    return judged(lambda folder: shop.logs(folder, SESSIONS, seed), shop.policies())


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("title", SHOPS)
def test_sessions_that_fade(title, capsys):
    """Print how often there are verdicts, and how often they hold."""
    shop = SHOPS[title]
    truth = {name: shop.value(one) for name, one in shop.policies().items()}
    found = of_logs(partial(verdicts, title), range(LOGS))
    with capsys.disabled():
        print(f"\nsessions end {title}: {LOGS} logs of {SESSIONS:,} sessions")
        print_held(found, truth, digits=3)
