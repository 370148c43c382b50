"""Verdicts from logs of slates, where users choose in ways that the choice model lacks.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs, `SLATEFLOW_BENCHMARK_ROWS` is their size.
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
from tests.evaluation.off_policy.slate_shop import HABITS, POLICIES, logs

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
ROWS = int(os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "10000"))
Found = dict[str, tuple[float, float, float, float, float, bool]]


def judged(habit: str, seed: int) -> Found:
    """Estimate, interval, model alone, half width by exact slates; whether it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = logs(Path(folder), habit, ROWS, seed)
        found = estimate_policies(dataset, POLICIES, held_out_only=False).policies
    return {
        name: (
            one.contributions.value,
            *one.contributions.interval(),
            one.estimates["dm"].value,
            1.96 * one.estimates["ips"].sem,
            one.refusal is not None,
        )
        for name, one in found.items()
    }


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("habit", HABITS)
def test_slates_however_users_choose(habit, capsys):
    """Print how often intervals hold, and their widths relative to those by exact slates."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(partial(judged, habit), range(LOGS)))
    with capsys.disabled():
        print(f"\nlooks at {habit}: {LOGS} logs of {ROWS:,} decisions")
        print("policy                   true  estimate  model   held  refused      ±  exact ±")
        for name, policy in POLICIES.items():
            truth = policy.value(habit)
            one = np.array([log[name] for log in found])
            held = ((one[:, 1] <= truth) & (truth <= one[:, 2])).mean()
            half = np.median(one[:, 2] - one[:, 1]) / 2
            print(
                f"{name:22} {truth:6.3f} {one[:, 0].mean():9.3f} {one[:, 3].mean():6.3f} "
                f"{held:6.3f} {one[:, 5].mean():8.2f} {half:6.3f} {np.median(one[:, 4]):8.3f}"
            )
