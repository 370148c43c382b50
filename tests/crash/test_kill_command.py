"""Real processes, killed at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slateflow.trajectories import MANIFEST, Dataset, Folder, generate, read_recipe

ROOT = Path(__file__).parents[2]
NAME = "modified-lts-20-2"
EPISODES = 3_000
RECIPE = read_recipe(ROOT / "datasets", NAME).varied(episodes=EPISODES)

LIBRARY = f"""
import sys
from pathlib import Path
from slateflow.trajectories import Folder, read_recipe
from slateflow.trajectories import generate

if __name__ == "__main__":
    recipe = read_recipe(Path({str(ROOT / "datasets")!r}), {NAME!r}).varied(episodes={EPISODES})
    generate(recipe, Folder(sys.argv[1]), workers=2)
"""


@pytest.fixture(scope="module")
def digest(tmp_path_factory) -> str:
    """The dataset of an uninterrupted run."""
    return generate(RECIPE, Folder(str(tmp_path_factory.mktemp("whole")))).digest


def kill_in_the_middle(command: list[str], folder: Path, delay: float) -> None:
    """Kill -9 some time after the first file appeared; the workers have to end, too."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(folder.rglob("part-*")) and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlive the process that was killed"
        time.sleep(0.05)


def children(process: int) -> list[int]:
    """All descendants of a process."""
    table = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parents = dict(tuple(map(int, line.split())) for line in table.splitlines())
    direct = [child for child, parent in parents.items() if parent == process]
    return direct + [below for child in direct for below in children(child)]


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def check_untouched_or_whole(folder: Path, digest: str) -> None:
    if (folder / MANIFEST).exists():
        assert Dataset.open(str(folder)).verify().digest == digest


@pytest.mark.slow
def test_killed_processes_with_workers_lose_nothing(tmp_path, digest):
    script = tmp_path / "script.py"
    script.write_text(LIBRARY)
    folder = tmp_path / RECIPE.dataset_name
    delays = random.Random(5)
    for _ in range(5):
        command = [sys.executable, str(script), str(tmp_path)]
        kill_in_the_middle(command, folder, delays.uniform(0, 0.15))
        check_untouched_or_whole(folder, digest)
    subprocess.run(command, check=True)
    assert Dataset.open(str(folder)).verify().digest == digest
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.slow
def test_the_killed_command_goes_on_where_it_stopped(tmp_path, digest):
    folder = tmp_path / RECIPE.dataset_name
    command = [sys.executable, "-m", "flows.cli.main", "generate", NAME, "--json"]
    command += ["--episodes", str(EPISODES), "--data", str(tmp_path)]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not any(folder.rglob("part-*")) and process.poll() is None:
        time.sleep(0.002)
    left = children(process.pid)  # Prefect's own server for it, which outlives it
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not (folder / MANIFEST).exists()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["digest"] == digest
    assert Dataset.open(str(folder)).verify().episodes == EPISODES
