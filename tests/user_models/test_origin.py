"""Columns far from zero, against regressions whose columns were centred row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slateflow.evaluation.off_policy.decision_model import DecisionModel
from slateflow.trajectories import Trajectories
from slateflow.trajectories.catalogue import Catalogue
from slateflow.user_models.bilinear import Sums, bilinear_features
from slateflow.user_models.item_regressions import ItemSums
from slateflow.user_models.origin import Origin, Ranges

ROWS, ITEMS = 400, 5
MODEL = DecisionModel(2, 2, features_match=False)


def rows(first: float, far: float, seed: int = 0) -> Trajectories:
    """Decisions of users with a time (from `first` on) and a device, on items with prices."""
    rng = np.random.default_rng(seed)
    price = np.array([1, 2, 4, 5, 7], np.float32)
    features = np.stack([price + np.float32(far), np.arange(ITEMS) % 2], axis=1)
    time, device = first + rng.integers(0, 64, ROWS), rng.integers(0, 2, ROWS)
    item = rng.integers(0, ITEMS, ROWS)
    reward = (time - time.mean()) / 20 * (price[item] - 4) + device + rng.normal(size=ROWS)
    return Trajectories(
        episode=np.arange(ROWS),
        step=np.zeros(ROWS, np.int32),
        user=np.stack([time, device], axis=1).astype(np.float32),
        candidates=np.broadcast_to(np.arange(ITEMS, dtype=np.int32), (ROWS, ITEMS)),
        slate=item[:, None].astype(np.int32),
        propensity=np.full(ROWS, 1 / ITEMS),
        clicked=np.zeros(ROWS, np.int32),
        reward=reward.astype(np.float32),
        responses={},
        terminated=np.ones(ROWS, np.bool_),
        truncated=np.zeros(ROWS, np.bool_),
        catalogue=Catalogue(features.astype(np.float32)),
    )


def products(logs: Trajectories, origin: Origin):
    """(R, 9) products of (1, user) and (1, item) less an origin, and rewards (R,)."""
    user, item = logs.user - origin.user, logs.shown_features() - origin.candidate
    return bilinear_features(user, item)[:, 0], logs.reward.astype(np.float64)


@pytest.mark.parametrize(
    ("low", "high", "origin"),
    [
        (0.0, 1.0, 0.0),
        (18.0, 80.0, 0.0),
        (1990.0, 2024.0, 1984.0),
        (-2024.0, -1990.0, -1984.0),
        (1.7e9, 1.7e9 + 2e6, 1.7e9),
        (np.nan, 1.0, 0.0),
    ],
)
def test_what_is_far_from_zero_has_an_origin_near_it(low, high, origin):
    found = Ranges.of(np.array([[low], [high]])).origin[0]
    assert found == pytest.approx(origin, abs=2 * max(high - low, 0) if origin else 0)
    assert found == np.float32(found)


def test_what_is_the_same_in_a_part_is_near_itself_unless_it_may_be_an_indicator():
    same = Ranges.of(np.array([[0.0, 1.0, 20_000.0], [0.0, 1.0, 20_000.0]]))
    assert same.origin_of_some.tolist() == [0, 0, 20_000]
    assert same.origin.tolist() == [0, 0, 0]


@pytest.mark.parametrize("later", [1.6e6, 1.61e6, 0.0])
def test_sums_of_parts_with_other_origins_add_up(later):
    one, other = rows(1.6e6, 5e4), rows(later, 5e4, seed=1)
    found = Sums.from_rows(one, MODEL) + Sums.from_rows(other, MODEL)
    assert found.origin == Sums.from_rows(one, MODEL).origin
    assert found.user_origin[0] == pytest.approx(1.6e6, abs=64)
    assert found.user_origin[1] == 0  # an indicator
    assert found.candidate_origin[0] == pytest.approx(5e4, abs=8)
    x, y = (
        np.concatenate(both)
        for both in zip(*(products(part, found.origin) for part in (one, other)), strict=True)
    )
    total = found.expanded()
    np.testing.assert_allclose(total.gram, x.T @ x, rtol=1e-9, atol=1e-9 * (x.T @ x).max())
    np.testing.assert_allclose(total.moment, x.T @ y, rtol=1e-9, atol=1e-9 * np.abs(x.T @ y).max())


def test_sums_by_item_add_up_too():
    one, other = rows(1.6e6, 0.0), rows(1.61e6, 0.0, seed=1)
    found = ItemSums.from_rows(one, MODEL) + ItemSums.from_rows(other, MODEL)
    for item in range(ITEMS):
        users = [part.user[part.slate[:, 0] == item] - found.user_origin for part in (one, other)]
        x = np.concatenate([np.ones((sum(map(len, users)), 1)), np.concatenate(users)], axis=1)
        expected = (x.T @ x)[np.triu_indices(3)]
        np.testing.assert_allclose(found.pairs[item], expected, rtol=1e-9, atol=1e-4)


@pytest.mark.parametrize("by_item", [False, True])
def test_predictions_do_not_depend_on_the_origin(by_item):
    """Those of a column of times are those of the same column from 0 on."""
    found = []
    for first, far in ((0.0, 0.0), (1.6e6, 5e4)):
        logs = rows(first, far)
        if by_item:
            ids = np.concatenate([logs.catalogue.features[:, :1], np.eye(ITEMS)], axis=1)
            logs = replace(logs, catalogue=Catalogue(ids.astype(np.float32)))
        size = logs.catalogue.features.shape[1]
        model = DecisionModel(2, size, features_match=False, by_item=by_item)
        folds = [model.sums(logs.catalogue) for _ in range(2)]
        for fold in range(2):
            folds[fold] += folds[fold].from_rows(logs.where(np.arange(ROWS) % 2 == fold), model)
        x = bilinear_features(logs.user.astype(float), logs.shown_features().astype(float))[:, 0]
        found.append(x @ model.weights(folds, logs.catalogue).reshape(2, -1).T)
    near, far = found
    assert np.abs(far - near).max() < 0.02 * near.std()
