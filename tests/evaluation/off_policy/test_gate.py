"""Held-out values that know when they do not know."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.evaluation.off_policy.fitted_q_evaluation import FittedQEvaluation
from slateflow.evaluation.off_policy.gate import held_out_value
from slateflow.policies import Scorer
from slateflow.trajectories import Folder, Recipe, generate


class FixedEstimator:
    """An estimator whose answers are given."""

    def __init__(self, rows, horizon: int, value: float, unseen: float) -> None:
        self.rows, self.horizon, self.answer, self.unseen = rows, horizon, value, unseen

    def value(self, scorer) -> float:
        return self.answer

    def hardly_seen(self, scorer) -> float:
        return self.unseen


def ranking(sign: float) -> Scorer:
    """The most clickbait first, or the least."""
    return Scorer(
        user_size=1, slate_size=1, horizon=60, window=1, offset=np.zeros(3), scale=np.ones(3),
        powers=np.eye(3, dtype=np.int64)[2:], head=np.array([[sign]]), head_bias=np.zeros(1),
    )  # fmt: skip


@pytest.fixture(scope="module", params=["random", "greedy"])
def logged(request, tmp_path_factory):
    recipe = Recipe("gate", "modified-lts-10-1", 400, 3, {request.param: 1.0})
    return request.param, generate(recipe, Folder(str(tmp_path_factory.mktemp("gate"))))


def test_a_policy_that_leaves_the_logs_has_no_value(logged):
    name, dataset = logged
    estimator = FittedQEvaluation.from_dataset(dataset)
    low, high = (held_out_value(estimator, ranking(sign)) for sign in (-1.0, 1.0))
    assert high.value == pytest.approx(estimator.value(ranking(1.0)))
    if name == "random":
        assert low.value == pytest.approx(estimator.value(ranking(-1.0)))
    else:
        assert low.value is None
        assert "of what this policy shows, at most 10% is allowed" in low.reason


@pytest.mark.parametrize(
    ("value", "kept"), [(30.0, True), (9.9, False), (90.1, False), (-6e14, False)]
)
def test_a_value_that_no_session_can_return_is_none(make_rows, value, kept):
    rows = make_rows(np.tile([1.0, 9.0], (2, 5)))  # two sessions of ten steps
    found = held_out_value(FixedEstimator(rows, 10, value, 0.0), ranking(1.0))
    assert found.value == (value if kept else None)
    assert bool(found.reason) != kept


def test_rounding_is_no_impossibility(make_rows):
    rows = make_rows(np.full((2, 10), 7.0))
    assert held_out_value(FixedEstimator(rows, 10, 70.000001, 0.0), ranking(1.0)).value == 70.000001


def test_short_sessions_may_return_less(make_rows):
    """Sessions of one step, though some may have ten."""
    rows = make_rows(np.array([[1.0], [9.0]]))
    assert held_out_value(FixedEstimator(rows, 10, 1.0, 0.0), ranking(1.0)).value == 1.0


@pytest.fixture
def make_rows(tmp_path):
    """Rows of E sessions of T steps with these rewards (E, T); the rest is generated."""

    def make(rewards):
        import dataclasses

        sessions, steps = rewards.shape
        parameters = {"time_budget": steps}
        recipe = Recipe("r", "modified-lts-10-1", sessions, 1, {"random": 1.0}, parameters)
        assert preset("modified-lts-10-1", **parameters).horizon == steps
        rows = generate(recipe, Folder(str(tmp_path))).read()
        return dataclasses.replace(rows, reward=rewards.reshape(-1).astype(np.float32))

    return make
