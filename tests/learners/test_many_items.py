"""Learners that accept logs of users or items with many features."""

from __future__ import annotations

import pytest

from slateflow.environments import preset
from slateflow.environments.logged.spec import LoggedSpec
from slateflow.errors import InputError
from slateflow.learners import learners_for, learners_left_out


def spec(
    items: int, users: int, candidates: int | None = None, named: bool = True, places: int = 1
) -> LoggedSpec:
    """Own logs; items have a column each, or as many that are not theirs alone."""
    return LoggedSpec(
        name="shop",
        slate_size=places,
        most_steps=1,
        num_candidates=candidates or items,
        fewest_candidates=candidates or items,
        user_features=tuple(f"user {number}" for number in range(users)),
        item_features=tuple(f"item {number}" for number in range(items)),
        item_count=items if named else 2 * items,
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (spec(34, 10), ["linucb", "lints", "logistic", "bc", "marwil", "cql", "iql", "fitted-q"]),
        (spec(100, 40), ["linucb", "lints", "logistic", "bc", "marwil", "cql", "iql"]),
        (spec(200, 40), ["linucb", "lints", "bc", "marwil", "cql", "iql"]),
        (spec(201, 40), ["linucb", "lints"]),
        (spec(500, 24), ["linucb", "lints"]),
        (spec(500, 24, candidates=20), ["linucb", "lints", "bc", "marwil", "cql", "iql"]),
        (preset("modified-lts-20-2", num_candidates=201), ["linucb", "lints", "fitted-q"]),
        (preset("interest-evolution", num_features=200), ["slateq"]),
        (spec(80, 50, places=3), ["linucb", "lints", "logistic", "slateq"]),
    ],
    ids=str,
)
def test_learners_that_can_take_them(found, expected):
    assert learners_for(found) == expected
    assert not {*learners_left_out(found)} & {*expected}


def test_learners_that_cannot_take_them_are_left_out():
    assert learners_left_out(spec(34, 10)) == []
    assert learners_left_out(spec(201, 40)) == [
        "logistic",
        "bc",
        "marwil",
        "cql",
        "iql",
        "fitted-q",
    ]
    assert learners_left_out(preset("interest-evolution", num_features=200)) == [
        "linucb", "lints", "logistic",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "found",
    [
        spec(500, 24, named=False),
        spec(500, 1500),
        spec(300, 20, places=3),
        preset("interest-evolution", num_features=210),
    ],
    ids=str,
)
def test_logs_that_nobody_can_take(found):
    with pytest.raises(InputError, match=r"expected few enough features for a learner, got"):
        learners_for(found)
