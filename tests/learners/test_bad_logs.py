"""Logs without information are refused by every learner, with the reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.learners import LEARNERS, learner_config, train

pytestmark = pytest.mark.integration

OFFLINE = [
    # Among RLlib's learners `bc` represents the others where time is short
    pytest.param(name, marks=pytest.mark.slow if name in ("marwil", "cql", "iql") else ())
    for name, config in LEARNERS.items()
    if not config.live
]


def short(name: str):
    neural = hasattr(LEARNERS[name], "updates")
    return learner_config(name, **({"updates": 50, "batch_size": 8} if neural else {}))


def sound(episodes: int = 6, steps: int = 4) -> dict[str, np.ndarray]:
    """Columns from which all learners can learn."""
    rng = np.random.default_rng(0)
    return {
        "user": rng.random((episodes, steps)),
        "candidates": rng.random((episodes, steps, 3)),
        "action": rng.integers(0, 3, (episodes, steps)),
        "reward": rng.random((episodes, steps)),
    }


def broken(what: str) -> dict[str, np.ndarray]:
    columns = sound()
    if what.startswith("NaN in "):
        name = what.removeprefix("NaN in ")
        columns[name][(1, 2, 0)[: columns[name].ndim]] = np.nan
    elif what == "NaN shown":
        columns["candidates"][1, 2, 0], columns["action"][1, 2] = np.nan, 0
    elif what == "no click":
        columns["clicked"] = np.full((6, 4), -1)
    elif what == "one candidate":
        columns["candidates"][:, :, 1] = 0.7
        columns["action"][:] = 1
    return columns


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("NaN in reward", r"^reward: expected finite numbers, got NaN or infinity"),
        ("NaN in user", r"^user: expected finite numbers, got NaN or infinity"),
        ("NaN in candidates", r"^candidates: expected finite numbers, got NaN or infinity"),
        ("NaN shown", r"^candidates: expected finite numbers, got NaN or infinity"),
        ("no click", r"^dataset: expected rows with a click, got none"),
        ("one candidate", r"^candidates: expected clicked candidates that vary, got \(0.7\) every"),
    ],
)
def test_logs_that_teach_nothing_are_refused(make_logs, name, what, message):
    columns = broken(what)
    if what == "NaN in candidates" and name in ("linucb", "lints", "logistic"):
        columns["action"][1, 2] = 0  # the bandits look at the clicked one only
    with pytest.raises(InputError, match=message):
        train(make_logs(**columns), short(name))


@pytest.mark.parametrize("name", OFFLINE)
def test_a_dataset_without_rows_is_refused(make_logs, name):
    empty = dataclasses.replace(make_logs(**sound()), parts=())
    with pytest.raises(InputError, match="expected rows to train from, got none"):
        train(empty, short(name))


@pytest.mark.parametrize("name", OFFLINE)
def test_the_same_columns_unbroken_are_learnt_from(make_logs, name):
    scorer, _ = train(make_logs(**sound(40)), short(name))
    request = np.full((1, 1), 0.5), np.zeros(1, dtype=int), np.array([[[0.1], [0.6], [0.9]]])
    assert np.isfinite(scorer.scores(*request)).all()
