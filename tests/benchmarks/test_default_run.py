"""The default run, as a user types it, against that of an earlier commit, alternately.

Both are clones with their packages installed, and every run starts with an empty HOME and without
data. `SLATEFLOW_BENCHMARK_COMMIT` is another commit, `SLATEFLOW_BENCHMARK_RUNS` the number of runs.
"""

from __future__ import annotations

import os
import pty
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
EARLIER = os.environ.get("SLATEFLOW_BENCHMARK_COMMIT", "982bcb1")
RUNS = int(os.environ.get("SLATEFLOW_BENCHMARK_RUNS", "3"))


@dataclass(frozen=True)
class Timed:
    """Seconds of a run, and seconds until its first output."""

    whole: float
    first: float


def clone(commit: str, folder: Path) -> Path:
    """The commit with its packages, compiled."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", commit], check=True)
    subprocess.run(["uv", "sync", "--quiet", "--compile-bytecode"], cwd=folder, check=True)
    return folder


def timed(folder: Path) -> Timed:
    """One run at a terminal."""
    subprocess.run(["git", "clean", "-fdxq", "--exclude=.venv"], cwd=folder, check=True)
    home = tempfile.mkdtemp(dir=folder.parent)
    ours = {
        *("MLFLOW_TRACKING_URI", "PREFECT_HOME", "PREFECT_API_URL"),
        *("VIRTUAL_ENV", "PYTHONPATH"),
    }
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    screen, terminal = pty.openpty()
    start = time.monotonic()
    with subprocess.Popen(
        [str(folder / ".venv/bin/slateflow"), "run"],
        cwd=folder,
        env={**environment, "HOME": home},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as run:
        os.close(terminal)
        printed = os.read(screen, 1)
        first = time.monotonic() - start
        try:
            while chunk := os.read(screen, 1 << 16):
                printed = (printed + chunk)[-5000:]
        except OSError:  # the other side of a terminal was closed
            pass
    whole = time.monotonic() - start
    os.close(screen)
    assert run.returncode == 0, printed.decode(errors="replace")
    shutil.rmtree(home)
    return Timed(whole, first)


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_the_default_run_against_that_of_an_earlier_commit(tmp_path):
    sides = {name: clone(name, tmp_path / name) for name in (EARLIER, "HEAD")}
    times: dict[str, list[Timed]] = {name: [] for name in sides}
    for _ in range(RUNS):
        for name, folder in sides.items():
            times[name].append(timed(folder))
    print(f"\n{os.cpu_count()} processors, load {psutil.getloadavg()[0]:.1f} at the end")
    print("| commit | s, median of runs | least | most | first output, s |")
    print("|---|---|---|---|---|")
    medians = {}
    for name, runs in times.items():
        whole = [one.whole for one in runs]
        medians[name] = statistics.median(whole)
        first = statistics.median(one.first for one in runs)
        print(
            f"| {name} | {medians[name]:.1f} | {min(whole):.1f} | {max(whole):.1f} | {first:.1f} |"
        )
    print(f"ratio {medians['HEAD'] / medians[EARLIER]:.2f}")
