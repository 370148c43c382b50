"""A training continues after a kill, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.learners.rllib import training
from slateflow.policies import Scorer
from slateflow.trajectories import Dataset

ROOT = Path(__file__).parents[3]
SEED = 3

KILLED = """\
import json, os, signal, sys
from pathlib import Path
from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset

def die(done, total):
    if done == {iteration}:
        os.kill(os.getpid(), signal.SIGKILL)

learner, settings, path, folder = json.loads(sys.argv[1])
train(Dataset.open(path), learner_config(learner, **settings), {seed}, die, Path(folder))
"""


def settings_of(learner: str) -> dict[str, float]:
    """Several epochs of 9 minibatches, so that a checkpoint is not at the start of an epoch."""
    shape = {"updates": 400, "batch_size": 64, "width": 8}
    own = {"marwil": {"beta": 1.0}}
    return {**shape, **own.get(learner, {})}


def arrays(scorer: Scorer) -> list[np.ndarray]:
    values = [getattr(scorer, field.name) for field in fields(Scorer)]
    flat = [v for value in values for v in (value if isinstance(value, tuple) else (value,))]
    return [np.asarray(value) for value in flat]


def kill(dataset: Dataset, learner: str, folder: Path, iteration: int) -> None:
    """Train in a process that dies midway."""
    request = json.dumps([learner, settings_of(learner), dataset.path, str(folder)])
    code = KILLED.format(iteration=iteration, seed=SEED)
    done = subprocess.run(
        [sys.executable, "-c", code, request], cwd=ROOT, capture_output=True, check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]


def stop_at_six(done: int, total: int) -> None:
    """Interrupt a training after the checkpoint of its fourth iteration."""
    if done == 6:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("learner", "how"),
    [
        ("bc", "interrupted"),
        *(
            pytest.param(learner, how, marks=pytest.mark.slow)
            for learner, how in (
                ("marwil", "interrupted"),
                ("cql", "interrupted"),
                ("iql", "interrupted"),
                ("cql", "killed"),
            )
        ),
    ],
)
def test_a_training_goes_on_and_ends_in_the_same_weights(small_logs, tmp_path, learner, how):
    config = learner_config(learner, **settings_of(learner))
    whole, whole_report = train(small_logs, config, SEED)
    if how == "killed":
        kill(small_logs, learner, tmp_path, iteration=6)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(small_logs, config, SEED, stop_at_six, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert [file.name for file in folder.iterdir()] == ["state.pt"]
    calls: list[int] = []
    scorer, report = train(
        small_logs, config, SEED, lambda done, _: calls.append(done), checkpoints=tmp_path
    )
    assert calls[0] == 5  # the last checkpoint was after four iterations
    for one, other in zip(arrays(whole), arrays(scorer), strict=True):
        np.testing.assert_array_equal(one, other)
    assert report.curves == whole_report.curves
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        "dataset",
        *(pytest.param(other, marks=pytest.mark.slow) for other in ("seed", "setting", "code")),
    ],
)
def test_another_training_does_not_go_on_there(small_logs, logs, tmp_path, monkeypatch, change):
    settings = settings_of("bc")
    with pytest.raises(KeyboardInterrupt):
        train(small_logs, learner_config("bc", **settings), SEED, stop_at_six, tmp_path)
    calls: list[int] = []
    dataset = logs if change == "dataset" else small_logs
    if change == "setting":
        settings["learning_rate"] = 1e-3
    if change == "code":
        monkeypatch.setattr("slateflow.learners.config.code_digest", lambda module: "other")
    seed = SEED + (change == "seed")
    train(
        dataset, learner_config("bc", **settings), seed,
        lambda done, _: calls.append(done), tmp_path,
    )  # fmt: skip
    assert calls[0] == 1
    assert len(list(tmp_path.iterdir())) == 1  # the first one's files still exist for it


def test_seconds_of_the_killed_run_count(small_logs, tmp_path, monkeypatch):
    clock = iter(range(0, 1_000_000, 1_000))  # longer than the test may take
    config = learner_config("bc", **settings_of("bc"))
    with monkeypatch.context() as patch:
        patch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        with pytest.raises(KeyboardInterrupt):
            train(small_logs, config, SEED, stop_at_six, tmp_path)
    _, report = train(small_logs, config, SEED, checkpoints=tmp_path)
    assert 4_000 < report.train_seconds < 5_000  # four iterations before the save
