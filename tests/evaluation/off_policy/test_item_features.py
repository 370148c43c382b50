"""Items with equal columns, of which one is liked: values by columns are those of the logs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slateflow.evaluation.off_policy import item_features
from slateflow.evaluation.off_policy.estimates import estimate_policies, prepared_sessions
from slateflow.evaluation.off_policy.item_features import ItemFeatures
from slateflow.trajectories import Dataset
from slateflow.user_models.polynomial import Polynomial
from tests.evaluation.off_policy.shop import OneItem
from tests.trajectories.sources.shop import log, published

TOPICS, MOST_STEPS, SESSIONS = 3, 4, 4_000
RECIPE = """[columns]
episode = "session"
time = "time"
user = ["age"]
[items]
file = "items.csv"
features = ["topic"]
tell_apart = "never"
"""
LOGGED = np.tile([0.8, 0.2], TOPICS) / TOPICS
"""Each topic has two items, of which the first is shown four times as often."""


def rates(likes_differ: bool) -> np.ndarray:
    """(M,) click rates of the items."""
    return np.tile([0.5, 0.1] if likes_differ else [0.3, 0.3], TOPICS)


def logs(
    folder: Path, likes_differ: bool, recipe: str = RECIPE, tastes_differ: float = 0.0
) -> Dataset:
    """Sessions of one to four steps; old users like every other item more."""
    rng = np.random.default_rng(5)
    session = np.repeat(np.arange(SESSIONS), rng.integers(1, MOST_STEPS + 1, SESSIONS))
    item = rng.choice(2 * TOPICS, len(session), p=LOGGED)
    age = rng.normal(size=SESSIONS)[session]
    liked = rates(likes_differ)[item] + tastes_differ * np.sign(age) * (-1.0) ** item
    lines = [f"{one},t{one // 2}" for one in range(2 * TOPICS)]
    (folder / "items.csv").write_text("\n".join(["item,topic", *lines]) + "\n")
    log(folder, "log.parquet", {
        "session": session,
        "time": np.arange(len(session)),
        "age": age,
        "item": item,
        "propensity": LOGGED[item],
        "reward": (rng.random(len(session)) < liked).astype(np.int64),
    })  # fmt: skip
    return published(folder, recipe)


@pytest.mark.parametrize("item", [0, 1, 5])
def test_the_value_is_that_of_the_item_that_is_shown(tmp_path, item):
    dataset, target = logs(tmp_path, likes_differ=True), {"it": OneItem(item)}
    found = estimate_policies(dataset, target, held_out_only=False).policies["it"]
    truth = rates(likes_differ=True)[item] * (1 + MOST_STEPS) / 2
    assert found.refusal is None
    assert found.contributions.value == pytest.approx(truth, abs=3.5 * found.contributions.sem)
    assert found.contributions.sem < 0.05


def test_by_columns_alone_it_was_that_of_the_item_that_was_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(item_features, "MOST_ITEMS", 0)
    dataset = logs(tmp_path, likes_differ=True)
    found = prepared_sessions(dataset.read(), dataset.spec).estimate(OneItem(1))
    logged = (0.8 * 0.5 + 0.2 * 0.1) * (1 + MOST_STEPS) / 2  # 1.05, where 0.25 is true
    assert (found.start + found.learnt.errors).mean() == pytest.approx(logged, abs=0.1)


@pytest.mark.parametrize("likes_differ", [True, False])
def test_items_are_told_apart_where_they_differ(tmp_path, likes_differ):
    dataset = logs(tmp_path, likes_differ)
    sessions = prepared_sessions(dataset.read(), dataset.spec)
    assert sessions.of_choices.items == (2 * TOPICS if likes_differ else 0)


WITH_IDS = RECIPE.replace('["topic"]', '["topic", "item"]')


@pytest.mark.parametrize("recipe", [RECIPE, WITH_IDS], ids=["columns", "ids"])
def test_ids_of_policies_do_not_widen_values(tmp_path, recipe):
    dataset = logs(tmp_path, likes_differ=True, recipe=recipe)
    of_choices = prepared_sessions(dataset.read(), dataset.spec).of_choices
    assert (of_choices.items, of_choices.liked_by) == (2 * TOPICS, 0)


def test_tastes_for_single_items_are_known_where_ids_are(tmp_path):
    dataset = logs(tmp_path, False, WITH_IDS, tastes_differ=0.2)
    sessions = prepared_sessions(dataset.read(), dataset.spec)
    assert (sessions.of_choices.items, sessions.of_choices.liked_by) == (2 * TOPICS, 1)
    found = estimate_policies(dataset, {"it": OneItem(1)}, held_out_only=False).policies["it"]
    truth = 0.3 * (1 + MOST_STEPS) / 2  # the young like it as much more as the old less
    assert found.refusal is None
    assert found.contributions.value == pytest.approx(truth, abs=3.5 * found.contributions.sem)


def test_products_of_users_and_items():
    rng = np.random.default_rng(0)
    x, item = rng.normal(size=(50, 3)), rng.integers(0, 4, 50)
    plain = ItemFeatures(Polynomial.over(x, 2, 2), users=2, items=4)
    ours = ItemFeatures(plain.polynomial, users=2, items=4, liked_by=1)
    design, (of_user, of_item) = ours.design(x, item), ours.degrees
    assert design.shape == (50, len(of_user)) == (50, len(of_item))
    assert (design[:, :-3] == plain.design(x, item)).all()
    user = (x[:, :1] - x[:, 0].mean()) / x[:, 0].std()
    np.testing.assert_allclose(design[:, -3:], user * (item[:, None] == [1, 2, 3]))
    assert of_user[-6:].tolist() == [0, 0, 0, 1, 1, 1]
    assert of_item[-6:].tolist() == [1, 1, 1, 1, 1, 1]


def test_indicators_take_the_place_of_what_items_alone_have():
    rng = np.random.default_rng(0)
    x, item = rng.normal(size=(50, 3)), rng.integers(0, 4, 50)
    plain = ItemFeatures(Polynomial.over(x, 2, 1), users=1)
    ours = ItemFeatures(plain.polynomial, users=1, items=4)
    of_user, of_item = ours.degrees
    design, kept = ours.design(x, item), len(of_user) - 3
    assert design.shape == (50, len(of_user)) == (50, len(of_item))
    assert (design[:, kept:] == (item[:, None] == [1, 2, 3])).all()
    assert of_user[kept:].tolist() == [0, 0, 0]
    assert of_item[kept:].tolist() == [1, 1, 1]
    both = zip(of_user[:kept].tolist(), of_item[:kept].tolist(), strict=True)
    # 1, u, u²; and the products of the user with two columns
    assert sorted(both) == [(0, 0), (1, 0), (1, 1), (1, 1), (2, 0)]
    all_but_items = (plain.degrees[0] > 0) | (plain.degrees[1] == 0)
    assert (design[:, :kept] == plain.design(x, item)[:, all_but_items]).all()


def test_features_that_are_sums_of_others_are_left_out():
    """Indicators of a category equal their squares, and products of two of them are 0."""
    rng = np.random.default_rng(5)
    kind, topic = np.eye(3)[rng.integers(0, 3, 500)], np.eye(4)[rng.integers(0, 4, 500)]
    x, item = np.concatenate([kind, rng.normal(size=(500, 1)), topic], axis=1), np.zeros(500, int)
    every = ItemFeatures(Polynomial.over(x, 2, 4), users=4)
    ours = every.independent_in(x, item)
    # By kind: 3; a number, its square, and by kind: 4; topics by kind: 3 × 3; and by the number: 3
    assert (len(every), len(ours)) == (45, 3 + 4 + 3 * 3 + 3)
    full, kept = every.design(x, item), ours.design(x, item)
    weights = np.linalg.lstsq(kept, full, rcond=None)[0]
    np.testing.assert_allclose(kept @ weights, full, atol=1e-9)
    of_user, of_item = ours.degrees
    assert np.count_nonzero(of_item == 0) == 3 + 4  # nothing of the user is lost to products
    assert kept.shape[1] == len(of_user)
