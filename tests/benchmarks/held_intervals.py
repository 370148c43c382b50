"""How often simulated logs yield verdicts, and how often their intervals cover the truth."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.trajectories import Dataset

Found = TypeVar("Found")
Judged = dict[str, tuple[float, ...]]
"""For each policy its estimate, both ends of the interval, and whether it is refused."""


def judged(logs: Callable[[Path], Dataset], targets: Mapping[str, Target]) -> Judged:
    """The verdicts on policies from logs that are written to a folder."""
    with tempfile.TemporaryDirectory() as folder:
        found = estimate_policies(logs(Path(folder)), targets, held_out_only=False).policies
    return {
        name: (one.contributions.value, *one.contributions.interval(), one.refusal is not None)
        for name, one in found.items()
    }


def of_logs(work: Callable[[int], Found], seeds: Iterable[int]) -> list[Found]:
    """Results for each seed, computed with all processors."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, seeds))


def print_held(found: Sequence[Judged], truth: Mapping[str, float], digits: int) -> None:
    """Print a row for each policy: its true value, and its verdicts in all logs."""
    print("policy              true  refused  estimate    held       ±")
    for name, value in truth.items():
        every = np.array([log[name] for log in found])
        given, text = every[every[:, 3] == 0], ""
        if len(given):
            held = ((given[:, 1] <= value) & (value <= given[:, 2])).mean()
            half = np.median(given[:, 2] - given[:, 1]) / 2
            text = f"{given[:, 0].mean():9.{digits}f} {held:7.2f} {half:7.{digits}f}"
        print(f"{name:16} {value:7.{digits}f} {every[:, 3].mean():8.2f} {text}")
