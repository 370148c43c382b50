"""Time and memory of the learners that pass over parts, by number of rows.

From 5 million rows on, all processors of the machine take parts, each in its own process.

`SLATEFLOW_BENCHMARK_ROWS` has the sizes, such as 1000000,10000000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.logs_by_rows import logs_by_rows

ROOT = Path(__file__).parents[2]
SIZES = [
    int(size) for size in os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "240000,1000000").split(",")
]
TRAIN = """
import json, resource, sys
from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset
learner, path = sys.argv[1:]
dataset = Dataset.open(path)
_, report = train(dataset, learner_config(learner), 0)
peaks = [
    resource.getrusage(who).ru_maxrss / 1024
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
]
print(json.dumps([dataset.rows, report.train_seconds, *peaks, dataset.digest]))
"""


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("learner", "world"), [("fitted-q", "modified-lts-20-2"), ("slateq", "interest-evolution")]
)
def test_time_and_memory_by_rows(learner, world, tmp_path, capsys):
    lines = [
        f"| {learner}, {world}, rows | s | rows/s | peak, MiB | of a process beside it | digest |",
        "|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        with logs_by_rows(world, size, tmp_path) as dataset:
            done = subprocess.run(
                [sys.executable, "-c", TRAIN, learner, dataset.path],
                check=True, capture_output=True, text=True, cwd=ROOT,
            )  # fmt: skip
        rows, seconds, own, beside, digest = json.loads(done.stdout)
        lines.append(
            f"| {rows:,} | {seconds:.1f} | {rows / seconds:,.0f} | {own:,.0f} | {beside:,.0f} "
            f"| {digest[:19]} |"
        )
    with capsys.disabled():
        print("", *lines, sep="\n")
