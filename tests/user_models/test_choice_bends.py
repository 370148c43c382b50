"""Features of users' choices from slates where their log-odds bend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from slateflow.trajectories import Dataset
from slateflow.user_models.choice_bends import with_bends
from slateflow.user_models.choices import SlateFeatures
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

PLAIN = SlateFeatures(features_match=False, places=True)


def logged(folder, user: np.ndarray, item: np.ndarray, odds: np.ndarray, rng) -> Dataset:
    """Slates of three, by users (R, 2), of items (M, 2) that they like by log-odds (R, M)."""
    slates = rng.random(odds.shape).argsort(axis=1)[:, :3]
    likes = rng.random(slates.shape) < 1 / (1 + np.exp(-np.take_along_axis(odds, slates, axis=1)))
    table = slates_table(slates, first_liked(likes), len(item))
    log(folder, "log.parquet", table | {"one": user[:, 0], "two": user[:, 1]})
    named = {"item": np.arange(len(item)), "x": item[:, 0], "y": item[:, 1]}
    pd.DataFrame(named).to_csv(folder / "items.csv", index=False)
    return published(
        folder,
        '[columns]\nuser = ["one", "two"]\nclicked = "clicked"\n'
        '[items]\nfile = "items.csv"\nfeatures = ["x", "y"]\n',
    )


@pytest.mark.parametrize("bent", [True, False])
def test_held_out_slates_choose_random_features(tmp_path, bent):
    """Users like a sine of a sum of two columns of theirs and an item's, or that sum itself."""
    rng = np.random.default_rng(2)
    user, item = rng.normal(size=(6_000, 2)), rng.normal(size=(12, 2)).round(3)
    summed = (user @ [1.0, -1.0])[:, None] + item @ [1.0, 1.0]
    odds = 2 * np.sin(2 * summed) if bent else summed
    dataset = logged(tmp_path, user, item, odds - 1.0, rng)
    found = with_bends(dataset.read(), PLAIN, (2, 2), from_the_top=True)
    assert (found.random is not None) == bent
    matching = replace(PLAIN, features_match=True)
    assert with_bends(dataset.read(), matching, (2, 2)) is matching


@pytest.mark.parametrize("proportional", [True, False])
def test_held_out_slates_choose_a_link(tmp_path, proportional):
    """Odds are a power of a sum of products, or its exponential."""
    rng = np.random.default_rng(3)
    user, item = rng.uniform(-1, 1, (6_000, 2)), rng.choice([-1, 1], (12, 2))
    liked = user @ item.T / 2  # within (−1, 1)
    odds = 3 * np.log(1.0 + liked) if proportional else 3 * liked - 1.0
    dataset = logged(tmp_path, user, item, odds, rng)
    found = with_bends(dataset.read(), PLAIN, (2, 2), from_the_top=True)
    assert (found.link is not None) == proportional
