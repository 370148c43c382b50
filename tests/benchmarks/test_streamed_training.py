"""Neural learners with rows streamed through Ray Data, compared with all rows in memory.

Both train on the same dataset, each in its own process, in turn. An update takes 512 rows. With the
default number of updates a training sees a part of the rows, but in memory all have to be read; for
a whole pass both take every row once.

`SLATEFLOW_BENCHMARK_ROWS` has the sizes, such as 1000000,10000000.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.logs_by_rows import logs_by_rows

ROOT = Path(__file__).parents[2]
SIZES = [int(size) for size in os.environ.get("SLATEFLOW_BENCHMARK_ROWS", "1000000").split(",")]
LEARNERS = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "cql,iql,marwil,bc").split(",")
TURNS = int(os.environ.get("SLATEFLOW_BENCHMARK_TURNS", "3"))
IN_MEMORY, STREAMED = 10**9, 1
"""Most rows in memory."""

TRAIN = """
import json, logging, os, resource, sys
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
from slateflow.learners import learner_config, train
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.trajectories import Dataset
learner, path, rows, passes = sys.argv[1:]
dataset, config = Dataset.open(path), learner_config(learner, max_rows_in_ram=int(rows))
if int(passes):
    config = learner_config(
        learner, max_rows_in_ram=int(rows), updates=dataset.rows // config.batch_size
    )
with quiet_rllib():
    _, report = train(dataset, config, 0)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([config.updates * config.batch_size, report.train_seconds, peak]))
"""


def trained(learner: str, path: str, rows: int, passes: int) -> tuple[int, float, float]:
    """Number of rows used, seconds, and peak MiB of the training process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN, learner, path, str(rows), str(passes)],
        check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    learnt, seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return learnt, seconds, peak


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("size", SIZES)
def test_rows_a_second_streamed_and_in_memory(size, tmp_path, capsys):
    lines = [
        "| learner | rows learnt | in memory, rows/s | MiB | streamed, rows/s | MiB | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    with logs_by_rows("modified-lts-20-2", size, tmp_path) as dataset:
        lines.insert(0, f"{dataset.rows:,} rows, medians of {TURNS} turns")
        for learner, passes in itertools.product(LEARNERS, (0, 1)):
            turns = [
                [trained(learner, dataset.path, rows, passes) for rows in (IN_MEMORY, STREAMED)]
                for _ in range(TURNS)
            ]
            rates, peaks = (
                [statistics.median(figure(*turn[way]) for turn in turns) for way in (0, 1)]
                for figure in (lambda rows, s, _: rows / s, lambda _, __, peak: peak)
            )
            ratio = statistics.median(ours[1] / streamed[1] for ours, streamed in turns)
            lines.append(
                f"| {learner} | {turns[0][0][0]:,} | {rates[0]:,.0f} | {peaks[0]:,.0f} "
                f"| {rates[1]:,.0f} | {peaks[1]:,.0f} | {ratio:.2f} |"
            )
    with capsys.disabled():
        print("", *lines, sep="\n")
