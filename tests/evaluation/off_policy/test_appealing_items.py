"""Slates of many items that are liked for more than their price, and users with many columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.evaluation.off_policy.slate_shop import SlateByKind
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

ITEMS, PLACES, COLUMNS, ROWS = 40, 3, 8, 5_000
USERS = 200_000
"""Number of users over whom true values are averaged."""


@pytest.mark.parametrize("seed", [2, pytest.param(range(10, 22), marks=pytest.mark.slow)])
def test_items_have_a_column_each_where_its_products_are_too_many(tmp_path, seed):
    """From the price alone, the most liked items were estimated at little more than half."""
    held = []
    for one in [seed] if isinstance(seed, int) else seed:
        rng = np.random.default_rng(one)
        price, appeal = rng.normal(size=ITEMS).round(3), rng.normal(0, 0.7, ITEMS)
        liked = appeal - 0.4 * price
        dataset = _published(tmp_path / str(one), liked, price, rng)
        ranked = {"the liked": -liked, "the appealing": -appeal, "the cheap": price}
        targets = {name: _to_all(by) for name, by in ranked.items()}
        found = estimate_policies(dataset, targets, held_out_only=False).policies
        everybody = np.random.default_rng(1).normal(size=(USERS, COLUMNS))
        for name, estimate in found.items():
            assert estimate.refusal is None
            none = 1 - _likes(liked[targets[name].slates[0]], everybody)
            low, high = estimate.contributions.interval(0.99)
            held.append(low <= 1 - none.prod(axis=1).mean() <= high)
    assert np.mean(held) >= 0.9


def test_no_verdict_says_that_columns_for_each_item_are_too_many(tmp_path):
    """One half of the users likes what the other does not."""
    rng = np.random.default_rng(1)
    price, liked = rng.normal(size=ITEMS).round(3), rng.normal(0, 1.5, ITEMS)
    dataset = _published(tmp_path, liked, price, rng, apart=True)
    target = {"the liked": _to_all(-liked)}
    (found,) = estimate_policies(dataset, target, held_out_only=False).policies.values()
    assert found.refusal is not None
    assert "do not explain what users choose; with a column for each item" in found.refusal.reason
    assert f"of {ROWS:,} slates {ROWS // 100:,} at most are learnt" in found.refusal.reason
    assert "name fewer columns" in found.refusal.advice


def _to_all(by):
    """A policy that shows all users the items with the least values, in ascending order."""
    return SlateByKind(np.tile(np.argsort(by)[:PLACES], (COLUMNS, 1)))


def _likes(odds, user):
    """(R, K) probabilities of liking items with log-odds (R, K) and the user's first column."""
    return 1 / (1 + np.exp(2.2 - odds - 0.5 * user[:, :1]))


def _published(folder, liked, price, rng, apart=False):
    """Slates of a random policy; with `apart` half of the users have opposite tastes."""
    user = rng.normal(size=(ROWS, COLUMNS))
    slates = rng.random((ROWS, ITEMS)).argsort(axis=1)[:, :PLACES]
    odds = liked[slates] * (np.sign(user[:, 1:2]) if apart else 1.0)
    clicked = first_liked(rng.random(slates.shape) < _likes(odds, user))
    table = slates_table(slates, clicked, ITEMS)
    names = [f"u{number}" for number in range(COLUMNS)]
    log(folder, "log.parquet", table | dict(zip(names, user.T, strict=True)))
    catalogue = pd.DataFrame({"item": np.arange(ITEMS), "price": price})
    catalogue.to_csv(folder / "items.csv", index=False)
    columns = f'[columns]\nuser = {names}\nclicked = "clicked"\n'.replace("'", '"')
    items = '[items]\nfile = "items.csv"\nfeatures = ["price"]\ntell_apart = "never"\n'
    return published(folder, columns + items)
