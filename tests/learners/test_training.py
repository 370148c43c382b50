"""Properties of every learner: seeds, reports, a clean process, and precise errors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slateflow.learners import LEARNERS, learner_config, train
from slateflow.policies import AnyScorer

pytestmark = pytest.mark.integration

NEURAL = ("bc", "marwil", "cql", "iql")


def cases(names):
    """The names; among RLlib's learners `bc` represents the others where time is short."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name in NEURAL[1:] else ()) for name in names
    ]


OFFLINE = cases(name for name, config in LEARNERS.items() if not config.live)


def short(name: str):
    """A configuration that trains in a second."""
    if name == "slateq":
        return learner_config(name, iterations=2, tolerance=0, classes=2)
    if name == "cql":
        return learner_config(name, updates=50, batch_size=64, restarts=1)
    return learner_config(name, **({"updates": 50, "batch_size": 64} if name in NEURAL else {}))


def arrays(value: Any) -> list[np.ndarray]:
    """All numbers of a scorer, or of one of its fields."""
    if is_dataclass(value):
        value = tuple(getattr(value, field.name) for field in fields(value))
    if isinstance(value, tuple):
        return [array for one in value for array in arrays(one)]
    return [] if value is None else [np.asarray(value)]


def same(one: AnyScorer, other: AnyScorer) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


@pytest.mark.parametrize("name", OFFLINE)
def test_the_same_seed_gives_the_same_weights(small_logs, name):
    torch.manual_seed(1)
    one, _ = train(small_logs, short(name), seed=5)
    torch.manual_seed(2)
    again, _ = train(small_logs, short(name), seed=5)
    assert same(one, again)
    other, _ = train(small_logs, short(name), seed=6)
    assert same(one, other) == (
        name in ("linucb", "logistic", "fitted-q", "slateq")
    )  # nothing in those is random


@pytest.mark.parametrize("name", OFFLINE)
def test_training_leaves_the_process_as_it_was(small_logs, name):
    import ray

    torch.set_num_threads(2)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    python_state, threads, children = random.getstate(), threading.active_count(), processes()
    train(small_logs, short(name))
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), torch_state)
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)
    for _ in range(3):  # threads of servers in other tests also draw from it
        if random.getstate() == python_state:
            break
        python_state = random.getstate()
        train(small_logs, short(name))
    assert random.getstate() == python_state
    assert threading.active_count() == threads
    assert processes() == children
    assert not ray.is_initialized()


def processes() -> set[str]:
    """Children of this process."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("children are looked up in /proc")
    return {
        child
        for task in tasks.iterdir()
        for child in (task / "children").read_text(encoding="ascii").split()
    }


@pytest.mark.parametrize("name", OFFLINE)
def test_the_report_says_what_was_done(small_logs, name):
    config, calls = short(name), []
    scorer, report = train(small_logs, config, 4, lambda done, total: calls.append((done, total)))
    assert report.learner == name
    assert report.parameters == config.parameters()
    assert (report.seed, report.rows) == (4, 600)
    assert report.train_seconds > 0
    assert [done for done, _ in calls] == list(range(1, calls[0][1] + 1))
    assert all(np.isfinite(curve).all() and len(curve) == len(calls)
               for curve in report.curves.values())  # fmt: skip
    assert bool(report.curves) == (name not in ("linucb", "lints", "logistic"))
    assert (scorer.user_size, scorer.document_size, scorer.slate_size) == (1, 1, 1)


@pytest.mark.parametrize(("updates", "iterations"), [(1, 1), (50, 1), (51, 2), (100, 2)])
def test_updates_come_in_fifties(small_logs, updates, iterations):
    config = learner_config("bc", updates=updates, batch_size=8, width=2)
    _, report = train(small_logs, config)
    assert len(report.curves["policy_loss"]) == iterations


@pytest.mark.parametrize("name", cases(NEURAL))
def test_the_learning_rate_falls_to_a_hundredth(small_logs, name):
    from slateflow.learners.rllib.quiet import quiet_rllib

    with quiet_rllib():
        from slateflow.learners.rllib.training import algorithm_config

        config = learner_config(name, updates=100, batch_size=8, learning_rate=0.01)
        algorithm = algorithm_config(small_logs, config, seed=0).build_algo()
        try:
            (optimizer,) = algorithm.learner_group._learner._named_optimizers.values()
            rates = [float(optimizer.param_groups[0]["lr"])]  # a tensor that changes in place
            for _ in range(2):
                algorithm.train()
                rates.append(float(optimizer.param_groups[0]["lr"]))
        finally:
            algorithm.stop()
    assert rates == pytest.approx([0.01, 0.00505, 0.0001])


@pytest.mark.parametrize("name", cases((*NEURAL, "fitted-q")))
def test_fewer_rows_than_a_batch_are_enough(make_logs, name):
    rng = np.random.default_rng(0)
    dataset = make_logs(
        rng.random((5, 4)), rng.random((5, 4, 2)), rng.integers(0, 2, (5, 4)), rng.random((5, 4))
    )
    scorer, _ = train(dataset, short(name))
    assert all(np.isfinite(values).all() for values in arrays(scorer))


@pytest.mark.parametrize(
    "training",
    [
        pytest.param(
            'train(dataset, learner_config("bc", updates=50, batch_size=64))',
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "train_live(dataset.spec, "
            'learner_config("ppo", users=4, live_steps=1000, batch_size=64))',
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_folder_is_left_in_ray_results(small_logs, tmp_path, training):
    code = f"""
from slateflow.learners import learner_config, train, train_live
from slateflow.trajectories import Dataset
dataset = Dataset.open({small_logs.path!r})
{training}
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert not (tmp_path / "ray_results").exists()
