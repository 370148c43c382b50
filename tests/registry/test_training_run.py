"""Trainings in MLflow: their times, progress and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slateflow.learners import learner_config, train
from slateflow.trajectories import Folder, generate, read_recipe
from tasks.store.tracking import mlflow_client
from tasks.store.training_run import training_run

ROOT = Path(__file__).parents[2]
NAME = "modified-lts-10-1"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield generate(read_recipe(ROOT / "datasets", NAME).varied(10, 1), Folder(str(folder)))


def run_of(dataset, seed):
    return training_run(mlflow_client(), NAME, dataset, learner_config("fitted-q", degree=2), seed)


def test_a_run_lasts_as_long_as_its_training_and_its_curves_have_their_times(dataset, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    before = time.time()
    with run_of(dataset, 1) as run:
        scorer, report = train(dataset, learner_config("fitted-q", degree=2), 1)
        time.sleep(1.5)  # some samples of the machine
        run.log(scorer, report)
    logged = run.client.get_run(run.run_id)
    assert logged.info.status == "FINISHED"
    start, end = logged.info.start_time, logged.info.end_time
    assert 1000 * before - 1 <= start <= end - 1000 * (report.train_seconds + 1.5) + 1
    curve = run.client.get_metric_history(run.run_id, "residual")
    times = [point.timestamp for point in curve]
    assert [point.value for point in curve] == report.curves["residual"]
    assert len(times) > 3
    assert times == [int(1000 * moment) for moment in report.curves.times["residual"]]
    assert start <= times[0] <= times[-1] <= end - 1500
    assert times == sorted(times)
    assert logged.data.metrics["system/system_memory_usage_megabytes"] > 0


def test_a_training_that_fails_leaves_a_failed_run_with_its_error(dataset):
    with pytest.raises(MemoryError), run_of(dataset, 2) as run:
        raise MemoryError("no room for the design")
    failed = run.client.get_run(run.run_id)
    assert failed.info.status == "FAILED"
    assert failed.data.tags["slateflow.error"] == "MemoryError: no room for the design"
    with pytest.raises(KeyboardInterrupt), run_of(dataset, 3) as run:
        raise KeyboardInterrupt
    assert run.client.get_run(run.run_id).info.status == "KILLED"


@pytest.mark.slow
def test_the_next_training_closes_what_a_killed_process_left(dataset):
    killed = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys\n"
            "from slateflow.trajectories import Dataset\n"
            "from tests.registry.test_training_run import run_of\n"
            "with run_of(Dataset.open(sys.argv[1]), 4) as run:\n"
            "    print(run.run_id, flush=True)\n"
            "    sys.stdin.read()\n",
            dataset.path,
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ},
    )  # fmt: skip
    run_id = killed.stdout.readline().strip()
    with run_of(dataset, 5) as run:  # beside it
        assert run.client.get_run(run_id).info.status == "RUNNING"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    with run_of(dataset, 6) as run:
        assert run.client.get_run(run_id).info.status == "KILLED"
