"""Reading of own logs: time and memory by number of rows, and compared with pandas."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROWS = (1_000_000, 4_000_000)
FILE_ROWS = 500_000
RECIPE = """
source = "logs"
[columns]
user = ["age", "country"]
candidates = "offered"
episode = "session"
time = "t"
"""

_RUN = """
import resource, sys, time
from pathlib import Path
from slateflow.trajectories import Folder, generate, read_recipe
started = time.perf_counter()
generate(read_recipe(Path(sys.argv[1]), "shop"), Folder(sys.argv[1] + "/data"))
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write(folder: Path, rows: int) -> None:
    """Sessions of five rows, spread over all files."""
    rng = np.random.default_rng(0)
    (folder / "logs").mkdir(parents=True)
    (folder / "shop.toml").write_text(RECIPE)
    for first in range(0, rows, FILE_ROWS):
        offered = np.argsort(rng.random((FILE_ROWS, 34)), axis=1)[:, :10]
        frame = pd.DataFrame(
            {
                "age": rng.integers(18, 80, FILE_ROWS),
                "country": rng.choice(["at", "de", "fr"], FILE_ROWS),
                "session": rng.integers(0, rows // 5, FILE_ROWS),
                "t": rng.integers(0, 2**60, FILE_ROWS),
                "offered": list(offered),
                "item": offered[:, 0],
                "propensity": 0.1,
                "reward": rng.integers(0, 2, FILE_ROWS),
            }
        )
        frame.to_parquet(folder / "logs" / f"{first:09d}.parquet")


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_time_and_memory_of_own_logs(tmp_path, capsys):
    """Print both for two sizes: only the keys of the rows may add to memory."""
    measured = []
    for rows in ROWS:
        folder = tmp_path / str(rows)
        write(folder, rows)
        done = subprocess.run(
            [sys.executable, "-c", _RUN, str(folder)], capture_output=True, text=True, check=True
        )
        seconds, kilobytes = map(float, done.stdout.split())
        measured.append((seconds, kilobytes / 1e6))
    started = time.perf_counter()
    pd.read_parquet(tmp_path / str(ROWS[0]) / "logs")
    pandas = time.perf_counter() - started
    (few_seconds, few), (many_seconds, many) = measured
    growth = (many - few) * 1e9 / (ROWS[1] - ROWS[0])
    with capsys.disabled():
        print(f"\nown logs, {ROWS[0]:,} and {ROWS[1]:,} rows of shuffled sessions")
        print(f"time: {many_seconds / few_seconds:.2f} times for {ROWS[1] / ROWS[0]:.0f} times")
        print(f"time beside pandas' reading alone: {few_seconds / pandas:.1f} times")
        print(f"memory: {few:.2f} and {many:.2f} GB, {growth:.0f} bytes a further row")
