"""Regressions of items by their ids, against the normal equations as a matrix."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.learners import bandits
from slateflow.learners.bandits import LinearPosterior
from slateflow.trajectories.catalogue import Catalogue
from slateflow.user_models.bilinear import LinearStatistics
from slateflow.user_models.centring import bilinear_prior
from slateflow.user_models.item_regressions import (
    ItemRegression,
    ItemSums,
    by_item,
    item_centring,
)
from tests.trajectories.sources.shop import log, published

ITEMS, KINDS = 8, 3


def logs(folder, rows: int = 3000, features: str = "", origin: int = 0):
    """Clicks of users of three kinds on eight items, one of which is never shown.

    The origin is added to ages.
    """
    rng = np.random.default_rng(0)
    kind, age = rng.integers(0, KINDS, rows), rng.integers(18, 80, rows)
    item = rng.integers(0, ITEMS - 1, rows)
    likes = np.random.default_rng(1).uniform(0.05, 0.5, (KINDS, ITEMS))
    log(folder, "log.parquet", {
        "kind": np.array(list("abc"))[kind], "age": age + origin, "item": item,
        "propensity": np.full(rows, 1 / ITEMS),
        "reward": (rng.random(rows) < likes[kind, item]).astype(np.int64),
    })  # fmt: skip
    lines = [f"{number},{10 * number + 3},{'xyz'[number % 3]}" for number in range(ITEMS)]
    (folder / "items.csv").write_text("\n".join(["item,price,brand", *lines]) + "\n")
    items = f'[items]\nfile = "items.csv"\nid = "item"\n{features}'
    return published(folder, f'[columns]\nuser = ["kind", "age"]\n{items}\n')


@pytest.fixture(params=["", 'features = ["item", "price", "brand"]\n'], ids=["ids", "features"])
def dataset(request, tmp_path):
    return logs(tmp_path, features=request.param)


def both(dataset, ridge: float = 0.0):
    """The posterior by blocks, and that of a matrix."""
    rows = dataset.read()
    sums = ItemSums.from_rows(rows, dataset.spec)
    centring = None if ridge else item_centring(sums, dataset.catalogue)
    regression = ItemRegression.of(sums, dataset.catalogue, centring)
    statistics = LinearStatistics.from_rows(rows, dataset.spec)
    prior = ridge or bilinear_prior(statistics, dataset.spec)
    by_blocks = regression.with_prior(*(ridge, ridge) if ridge else regression.chosen_prior())
    return by_blocks, LinearPosterior.from_statistics(statistics, prior)


@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_it_is_the_regression_of_a_matrix(dataset, ridge):
    by_blocks, expected = both(dataset, ridge)
    np.testing.assert_allclose(by_blocks.mean, expected.mean, rtol=1e-5, atol=1e-7)
    assert by_blocks.noise == pytest.approx(expected.noise, rel=1e-9)


def test_draws_have_the_covariance_of_a_matrix(dataset):
    by_blocks, expected = both(dataset, 2.0)
    rng, factor = np.random.default_rng(2), expected.precision_factor
    draws = np.array([by_blocks.draw(rng, 0.7) for _ in range(4000)]) - by_blocks.mean
    # White where it is multiplied by the precision's root
    white = draws @ factor / (0.7 * expected.noise)
    found = white.T @ white / len(white)
    assert np.abs(found - np.eye(len(found))).max() < 6 / np.sqrt(len(white))


def test_sums_of_parts_are_those_of_all_rows(dataset):
    rows = dataset.read()
    halves = [rows.where(slice(None, 1000)), rows.where(slice(1000, None))]
    first, second = (ItemSums.from_rows(one, dataset.spec) for one in halves)
    added, whole = first + second, ItemSums.from_rows(rows, dataset.spec)
    for name, values in vars(whole).items():
        np.testing.assert_allclose(getattr(added, name), values, rtol=1e-12)


def test_many_items_are_learnt_by_blocks(tmp_path, monkeypatch):
    """Learners have equal weights with blocks and with a matrix."""
    dataset = logs(tmp_path)
    assert not by_item(dataset.spec)
    expected = bandits.LinUCBConfig().train(dataset, 0, lambda *_: None, None).scorer
    monkeypatch.setattr(bandits, "by_item", lambda spec: by_item(spec, 10))
    assert bandits.by_item(dataset.spec)
    found = bandits.LinUCBConfig().train(dataset, 0, lambda *_: None, None).scorer
    np.testing.assert_allclose(found.head, expected.head, rtol=1e-6, atol=1e-8)
    drawn = [
        bandits.LinTSConfig().train(dataset, seed, lambda *_: None, None) for seed in (0, 0, 1)
    ]
    first, again, other = (one.scorer.head for one in drawn)
    assert (first == again).all()
    assert (first != other).any()


def test_origins_do_not_matter(tmp_path, monkeypatch):
    """Ages 500,000 deviations from zero give the scores of ages."""
    monkeypatch.setattr(bandits, "by_item", lambda spec: by_item(spec, 10))
    found = []
    for origin in (0, 10_000_000):
        (folder := tmp_path / str(origin)).mkdir()
        dataset = logs(folder, origin=origin)
        assert bandits.by_item(dataset.spec)
        scorer = bandits.LinUCBConfig().train(dataset, 0, lambda *_: None, None).scorer
        rows = dataset.read().where(slice(500))
        found.append(scorer.scores(rows.user, rows.step, rows.candidate_features()))
    np.testing.assert_allclose(found[1], found[0], atol=1e-3 * found[0].std())


def test_items_without_indicators_are_refused(dataset):
    sums = ItemSums.from_rows(dataset.read(), dataset.spec)
    alike = Catalogue(np.ones((ITEMS, 3), np.float32))
    with pytest.raises(InputError, match="or items that are distinguished by their ids"):
        ItemRegression.of(sums, alike)
