"""Features of users' choices from slates where their log-odds bend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.trajectories import Dataset
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.choices import Choices, SlateFeatures
from slateflow.user_models.conditional_logit import fit_conditional_logit
from slateflow.user_models.nonlinear_choices import with_bends
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

PLAIN = SlateFeatures(features_match=False, places=True)


def logged(folder, user: np.ndarray, item: np.ndarray, odds: np.ndarray, rng) -> Dataset:
    """Slates of three items (M, 2) for users (R, 2), who like them with log-odds (R, M)."""
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
    """Log-odds are a sine of a sum of two users' columns and an item's, or that sum itself."""
    rng = np.random.default_rng(2)
    user, item = rng.normal(size=(6_000, 2)), rng.normal(size=(12, 2)).round(3)
    summed = (user @ [1.0, -1.0])[:, None] + item @ [1.0, 1.0]
    odds = 2 * np.sin(2 * summed) if bent else summed
    dataset = logged(tmp_path, user, item, odds - 1.0, rng)
    found = with_bends(dataset.read(), PLAIN, (2, 2), cascade=True)
    assert (found.random is not None) == bent


@pytest.mark.parametrize("proportional", [True, False])
def test_held_out_slates_choose_a_link(tmp_path, proportional):
    """Odds are a power of a sum of products, or its exponential."""
    rng = np.random.default_rng(3)
    user, item = rng.uniform(-1, 1, (6_000, 2)), rng.choice([-1, 1], (12, 2))
    liked = user @ item.T / 2  # within (−1, 1)
    odds = 3 * np.log(1.0 + liked) if proportional else 3 * liked - 1.0
    dataset = logged(tmp_path, user, item, odds, rng)
    found = with_bends(dataset.read(), PLAIN, (2, 2), cascade=True)
    assert (found.link is not None) == proportional


def nearest_and_furthest(user: np.ndarray, item: np.ndarray, log_odds, rng) -> Trajectories:
    """Items (M, D) nearest to users (R, D), or furthest from them; one in ten is random."""
    affinity, rows, policy = user @ item.T, len(user), rng.random(len(user))
    shown = np.where(policy < 0.45, affinity.argmax(axis=1), affinity.argmin(axis=1))
    shown = np.where(policy < 0.9, shown, rng.integers(0, len(item), rows))
    clicks = rng.random(rows) < 1 / (1 + np.exp(-log_odds(affinity[np.arange(rows), shown])))
    return Trajectories(
        episode=np.arange(rows),
        step=np.zeros(rows, np.int32),
        user=user.astype(np.float32),
        candidates=np.tile(item.astype(np.float32), (rows, 1, 1)),
        slate=shown[:, None].astype(np.int32),
        propensity=np.ones(rows),
        clicked=clicks.astype(np.int32) - 1,
        reward=clicks.astype(np.float32),
        responses={},
        terminated=np.ones(rows, np.bool_),
        truncated=np.zeros(rows, np.bool_),
    )


@pytest.mark.parametrize("proportional", [True, False])
def test_held_out_slates_choose_hinges_of_the_affinity(proportional):
    """Odds are 1 + a, with the affinity a, which a cubic exponent cannot fit; or exp(2 a).

    Where nothing bends, chance decides which is likelier, and the prior removes bends.
    """

    def log_odds(affinity: np.ndarray) -> np.ndarray:
        return np.log1p(affinity) if proportional else 2 * affinity

    rng = np.random.default_rng(4)
    user, item = rng.uniform(-1, 1, (40_000, 10)), np.eye(10)
    rows = nearest_and_furthest(user, item, log_odds, rng)
    plain = SlateFeatures(features_match=True)
    found = with_bends(rows, plain, (10, 10))
    affinity = np.linspace(-0.75, 0.75, 7)
    user = affinity[:, None] * np.ones(10)

    def error(features: SlateFeatures) -> float:
        """The mean absolute error of the log-odds."""
        model = fit_conditional_logit(Choices.from_rows(rows, features), features.groups(10, 10, 1))
        shown = np.broadcast_to(item, (7, 10, 10))
        (attraction,) = model.attraction(features.of(user, shown))
        return float(np.abs(np.log(attraction) - log_odds(affinity)[:, None]).mean())

    if proportional:
        assert found.link is not None
        assert error(found) < 0.05 < 0.1 < error(plain)
    else:
        assert error(found) == pytest.approx(error(plain), abs=0.005)
