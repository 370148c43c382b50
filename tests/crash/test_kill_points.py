"""kill -9 at every call that changes the disk: nothing is lost, duplicated or partial."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from slateflow.trajectories import Folder, generate
from tests.crash.kill_points import CALLS, RECIPE, files, kill_points, look, visited

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_kill_point_ends_well():
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.kill_points"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    points, good = re.search(r"(\d+) kill points, (\d+) good", done.stdout).groups()
    assert points == good
    assert int(points) > 50
    for call in set(CALLS) - {"link"}:  # of own logs: see test_own_logs_killed.py
        assert re.search(rf"before {call} ", done.stdout), call
    assert "middle write" in done.stdout


def test_the_harness_sees_every_byte_that_is_written(tmp_path):
    written = 0

    def count(name, half):
        nonlocal written
        written += name == "write"

    with visited(count):
        generate(RECIPE, Folder(str(tmp_path)))
    assert written == len(files(tmp_path)) + 1  # the claim, which is gone by now
    # Whole files in one call each: nothing else could have written them.
    assert [call for call, _ in kill_points(tmp_path / "b")].count("replace") == len(
        files(tmp_path)
    )


def test_the_harness_tells_partial_datasets_from_whole_ones(tmp_path):
    assert look(tmp_path) == "none"
    dataset = generate(RECIPE, Folder(str(tmp_path)))
    assert look(tmp_path) == "whole"
    part = Path(dataset.path, dataset.parts[1].path)
    whole = part.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b""):
        part.write_bytes(damaged)
        assert look(tmp_path) == "partial"
