"""Verdicts from logs of slates, where users differ in hidden tastes.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs.
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
from tests.evaluation.off_policy.hidden_shop import POLICIES, TASTES, logs, value

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "20"))
ROWS = {1: 10_000, 3: 5_000, 10: 2_000}
"""Number of sessions by their number of steps."""


def judged(tastes: str, spread: float, steps: int, seed: int) -> list[tuple[float, ...]]:
    """For each policy the truth, estimate, interval, and whether it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = logs(Path(folder), tastes, spread, steps, ROWS[steps], seed)
        found = estimate_policies(dataset, POLICIES, held_out_only=False).policies
    return [
        (
            steps * value(POLICIES[name], tastes, spread, seed),
            one.contributions.value,
            *one.contributions.interval(),
            float(one.refusal is not None),
        )
        for name, one in found.items()
    ]


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
def test_slates_where_tastes_are_hidden(capsys):
    """Print how often intervals hold for policies with a verdict."""
    with capsys.disabled():
        print(f"\n{LOGS} logs each")
        print("tastes        spread  steps  sessions  refused  verdicts   held      ±")
    for tastes in TASTES:
        for spread in (0.5, 1.0, 1.5):
            for steps, sessions in ROWS.items():
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(os.cpu_count(), context) as pool:
                    logged = pool.map(partial(judged, tastes, spread, steps), range(LOGS))
                    found = np.array(list(logged)).reshape(-1, 5)
                told = found[found[:, 4] == 0]
                held = (told[:, 2] <= told[:, 0]) & (told[:, 0] <= told[:, 3])
                half = np.median((told[:, 3] - told[:, 2]) / 2 / steps) if len(told) else np.nan
                with capsys.disabled():
                    print(
                        f"{tastes:13} {spread:6.1f} {steps:6} {sessions:9,} "
                        f"{found[:, 4].mean():8.2f} {len(told):9} "
                        f"{held.mean() if len(told) else np.nan:6.3f} {half:6.3f}"
                    )
