"""Columns of users and items in regressions on slates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.catalogue import Catalogue
from slateflow.user_models.slate_columns import (
    chosen_columns,
    items_pay_more,
    seen_in,
    with_columns_of_their_own,
)
from tests.evaluation.off_policy.bent_shop import ITEMS, BentShop
from tests.trajectories.sources.shop import first_liked, log, published, slates_table


@pytest.mark.parametrize("spread", [np.inf, 8.0])
def test_held_out_slates_choose_the_knots(tmp_path, spread):
    rows = BentShop(spread).slates(tmp_path, 4_000, 3).read()
    columns = chosen_columns(rows, features_match=False, rows_per_term=100)
    assert columns is not None
    assert (len(columns.user.knot_feature) > 0) == (spread < np.inf)
    assert seen_in(columns, rows).user.shape[1] == 1 + len(columns.user.knot_feature)
    assert not len(columns.item.knot_feature)  # an item's columns are 0 or 1


def test_users_in_the_space_of_the_items_stay_as_they_are(tmp_path):
    rows = BentShop(8.0).slates(tmp_path, 200, 3).read()
    assert chosen_columns(rows, features_match=True, rows_per_term=100) is None
    assert seen_in(None, rows) is rows


def test_users_are_seen_in_the_same_columns_whatever_the_unit(tmp_path):
    rows = BentShop(8.0).slates(tmp_path, 2_000, 3).read()
    seen = seen_in(chosen_columns(rows, features_match=False, rows_per_term=100), rows)
    np.testing.assert_allclose(seen.user.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(seen.user.std(axis=0), 1, atol=1e-3)
    minutes = replace(rows, user=(rows.user - 18) * 525_600)
    other = seen_in(chosen_columns(minutes, features_match=False, rows_per_term=100), minutes)
    np.testing.assert_allclose(other.user, seen.user, atol=1e-2)
    # An item's columns identify it, and remain
    np.testing.assert_array_equal(seen.shown_features(), rows.shown_features())


def test_so_are_items_that_come_with_the_rows(tmp_path):
    recipe = Recipe("r", "interest-exploration", 20, 1, {"random": 1.0}, {"step_limit": 10})
    rows = generate(recipe, Folder(str(tmp_path))).read()
    seen = seen_in(chosen_columns(rows, features_match=False, rows_per_term=100), rows)
    quality, *topics = np.moveaxis(seen.shown_features(), 2, 0)
    assert quality.mean() == pytest.approx(0, abs=1e-3)
    assert quality.std() == pytest.approx(1, abs=1e-3)
    assert {*np.unique(topics)} == {0, 1}


def test_few_sessions_are_not_asked(tmp_path):
    rows = BentShop(8.0).slates(tmp_path, 9, 3).read()
    columns = chosen_columns(rows, features_match=False, rows_per_term=100)
    assert columns is not None
    assert columns.user.scale.shape == (1,)
    assert columns.item.scale.shape == (ITEMS,)


def test_clicks_on_everything_say_nothing(tmp_path):
    rows = BentShop(8.0).slates(tmp_path, 500, 3).read()
    first = replace(rows, slate=rows.slate[:, :1], clicked=np.zeros(len(rows), np.int32))
    columns = chosen_columns(replace(first, reward=np.ones(len(rows), np.float32)), False, 1)
    assert columns is not None
    assert not len(columns.user.knot_feature)


@pytest.mark.parametrize(("quality", "price"), [(0.4, 0.0), (0.0, 0.7), (0.0, 0.0)])
def test_items_have_columns_of_their_own_where_their_means_differ(tmp_path, quality, price):
    """Clicks or rewards depend on more than the item's size; products with users are too many."""
    rng, items, places, rows = np.random.default_rng(3), 24, 3, 9_000
    size, own = rng.normal(size=items).round(3), rng.normal(size=items)
    slates = rng.random((rows, items)).argsort(axis=1)[:, :places]
    odds = -2.0 + 0.5 * size + quality * own
    likes = rng.random(slates.shape) < 1 / (1 + np.exp(-odds[slates]))
    clicked = first_liked(likes)
    table = slates_table(slates, clicked, items)
    paid = np.exp(price * rng.permutation(own))[slates[np.arange(rows), clicked]]
    table |= {"reward": (clicked >= 0) * paid, "age": rng.normal(size=rows)}
    log(tmp_path, "log.parquet", table)
    lines = [f"{item},{one}" for item, one in enumerate(size)]
    (tmp_path / "items.csv").write_text("\n".join(["item,size", *lines]) + "\n")
    recipe = (
        '[columns]\nuser = ["age"]\nclicked = "clicked"\n'
        '[items]\nfile = "items.csv"\nfeatures = ["size"]\ntell_apart = "never"\n'
    )
    dataset = published(tmp_path, recipe)
    found, alone = with_columns_of_their_own(dataset.read(), 100, 100)
    assert found.catalogue is not None
    assert alone == 0
    assert found.catalogue.features.shape[1] == (1 + items if quality or price else 1)
    assert items_pay_more(dataset.read(), 3.0) == (price > 0)
    assert not items_pay_more(found, 3.0)
    # With too many products the columns have none
    found, alone = with_columns_of_their_own(dataset.read(), 200, 200)
    assert alone == (items if quality or price else 0)
    assert found.catalogue is not None
    assert found.catalogue.features.shape[1] == 1 + alone
    unclicked = replace(dataset.read(), clicked=np.full(rows, -1, np.int32))
    assert with_columns_of_their_own(unclicked, 100, 100)[0] is unclicked
    assert not items_pay_more(unclicked)


@pytest.mark.parametrize("codes", [(0, 1), (1, 2), (10, 20), (-1, 1), (2019, 2024)])
def test_columns_of_two_values_are_indicators_however_they_are_coded(tmp_path, codes):
    rows = BentShop(8.0).slates(tmp_path, 400, 3).read()
    rng, (low, high) = np.random.default_rng(0), codes
    men, new = rng.integers(0, 2, (len(rows), 1)), rng.integers(0, 2, (ITEMS, 1))
    one = np.ones_like(men)
    user = np.concatenate([rows.user, low + (high - low) * men, high * one, one], axis=1)
    catalogue = Catalogue((low + (high - low) * new).astype(np.float32))
    coded = replace(rows, user=user.astype(np.float32), catalogue=catalogue)
    seen = seen_in(chosen_columns(coded, features_match=False, rows_per_term=10**6), coded)
    known = seen.user[:, -4:] if seen.user.shape[1] > 4 else seen.user
    np.testing.assert_array_equal(known[:, 1:2], men)
    np.testing.assert_array_equal(known[:, 2:3], one * (high == 1))
    np.testing.assert_array_equal(known[:, 3:4], one)
    assert seen.catalogue is not None
    np.testing.assert_array_equal(seen.catalogue.features, new)
