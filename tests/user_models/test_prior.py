"""The prior that the logs choose, against the likelihood of the rewards, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from slateflow.environments import preset
from slateflow.environments.logged.spec import LoggedSpec
from slateflow.policies.slate_choice import item_features
from slateflow.user_models.bilinear import Block, LinearStatistics, bilinear_features
from slateflow.user_models.item_values import kept_shares
from slateflow.user_models.prior import (
    WeightGroups,
    beyond_chance,
    chosen_prior,
    group_variances,
)


def made_up(seed: int, deviations: tuple[float, ...]):
    """Features (60, 4) of 1, candidate, user and product, and rewards with these weights."""
    rng = np.random.default_rng(seed)
    user, shown = rng.normal(size=(60, 1)), rng.normal(size=(60, 1, 1))
    features = bilinear_features(user, shown)[:, 0]
    weights = rng.normal(size=4) * deviations
    reward = features @ weights + 0.5 * rng.normal(size=60)
    return user, shown, features, reward


def log_evidence(features, reward, precisions) -> float:
    """Log evidence for normal weights and rewards, at the likeliest noise."""
    flat = np.array([1e-4, *precisions])
    covariance = np.eye(len(reward)) + features @ np.diag(1 / flat) @ features.T
    noise = reward @ np.linalg.solve(covariance, reward) / len(reward)
    return float(-0.5 * (np.linalg.slogdet(covariance)[1] + len(reward) * np.log(noise)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("deviations", [(1, 1, 1, 1), (2, 0.5, 0, 3), (1, 0, 0, 0.3)])
def test_no_other_prior_makes_the_rewards_much_likelier(seed, deviations):
    user, shown, features, reward = made_up(seed, deviations)
    statistics = LinearStatistics.from_block(
        Block.from_shown(user, shown, np.zeros(60, int), reward)
    )
    spec = preset("modified-lts-20-2")
    ours = np.diag(chosen_prior(statistics, WeightGroups.of(spec)))
    reached = log_evidence(features, reward, ours[1:])
    best = max(
        -optimize.minimize(
            lambda log: -log_evidence(features, reward, np.exp(np.clip(log, -9, 15))),
            np.full(3, start), method="Nelder-Mead",
        ).fun
        for start in (-3.0, 0.0, 3.0)
    )  # fmt: skip
    assert reached > best - 0.5


def test_weights_that_differ_by_chance_only_are_given_their_mean():
    """Ten interests of equal worth, each of which is informative about all."""
    rng, spec = np.random.default_rng(0), preset("interest-evolution", num_features=10)
    user = rng.uniform(-1, 1, size=(3000, 10))
    item = rng.integers(0, 10, (3000, 3))
    liked = np.take_along_axis(user, item, axis=1)
    clicked = np.where(rng.random((3000, 3)) < 0.3 + 0.2 * liked, 1.0, 0.0)
    total = LinearStatistics.none(123)
    for place in range(3):  # each place is a separate slate without competition
        shown = np.eye(10)[item]
        total += LinearStatistics.from_block(
            Block.from_shown(
                user, shown, np.where(clicked[:, place] > 0, place, -1), clicked[:, place]
            )
        )
    prior = chosen_prior(total, WeightGroups.of(spec))
    mean = np.linalg.solve(total.gram + prior, total.moment)[:121].reshape(11, 11)
    own, plain = np.diag(mean)[1:], np.linalg.solve(total.gram + np.eye(123), total.moment)
    assert own.std() < 0.5 * np.diag(plain[:121].reshape(11, 11))[1:].std()
    assert own.mean() == pytest.approx(0.2 / 3, rel=0.1)  # seen three times, clicked once
    np.testing.assert_allclose(prior, prior.T)


def test_units_make_no_difference():
    user, shown, _, reward = made_up(0, (1, 1, 1, 1))
    spec, clicked = preset("modified-lts-20-2"), np.zeros(60, int)
    scores = []
    for unit in (1.0, 1000.0):
        statistics = LinearStatistics.from_block(
            Block.from_shown(user, unit * shown, clicked, reward)
        )
        prior = chosen_prior(statistics, WeightGroups.of(spec))
        weights = np.linalg.solve(statistics.gram + prior, statistics.moment)
        scores.append(bilinear_features(user, unit * shown)[:, 0] @ weights)
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_variances_of_true_weights_are_found_and_chance_has_none():
    """Two groups of many weights, one with errors only."""
    rng, groups = np.random.default_rng(0), np.repeat([1, 4], 20_000)
    errors = rng.uniform(0.5, 2.0, 40_000)
    true = np.repeat([2.0, 0.0], 20_000) * rng.normal(size=40_000)
    estimates = true + np.sqrt(errors) * rng.normal(size=40_000)
    found = group_variances(estimates, errors, groups)
    assert len(np.unique(found)) == 2
    assert found[0] == pytest.approx(4.0, rel=0.05)
    assert 0 < found[-1] < 0.03


def test_weights_that_are_chance_are_shrunk_to_nothing_in_19_of_20_logs():
    rng, groups = np.random.default_rng(1), np.repeat(np.arange(4000), 10)
    errors = rng.uniform(0.5, 2.0, 4000).repeat(10)
    by_chance = np.sqrt(errors) * rng.normal(size=40_000)
    kept = kept_shares(by_chance, errors, groups).reshape(4000, 10)
    assert (kept > 1e-6).any(axis=1).mean() == pytest.approx(0.05, abs=0.015)
    real = by_chance + np.repeat([3.0, -3.0], 5)[np.arange(40_000) % 10] * np.sqrt(errors)
    assert (kept_shares(real, errors, groups) == 1).mean() > 0.99


@pytest.mark.parametrize(("effect", "least", "most"), [(0.0, 0.01, 0.08), (0.3, 1.0, 1.0)])
def test_groups_without_effects_are_left_no_weights_in_19_of_20_logs(effect, least, most):
    """Two groups of ten features beside ten that count, in 400 logs of 200 rows."""
    rng, found = np.random.default_rng(2), []
    groups = WeightGroups(np.repeat([0, 1, 3, 4], [1, 10, 10, 10]), np.zeros((0, 31)))
    for _ in range(400):
        features = np.column_stack([np.ones(200), rng.normal(size=(200, 30))])
        true = np.repeat([1.0, 1.0, effect, effect], [1, 10, 10, 10]) * rng.choice([-1, 1], 31)
        reward = features @ true + rng.normal(size=200)
        gram, moment = features.T @ features, features.T @ reward
        total = LinearStatistics(gram, moment, reward @ reward, 200, np.abs(features).sum(axis=0))
        prior = chosen_prior(total, groups, noise=1.0)
        kept = beyond_chance(prior, gram, moment, groups.numbers)
        assert kept[:11].all()
        found.append(kept[11:].any())
    assert least <= np.mean(found) <= most


@pytest.mark.parametrize(
    ("items", "match"),
    [(("news", "sport"), True), (("sport", "news"), False), (("price", "weight"), False)],
)
def test_as_many_features_need_not_be_the_same(items, match):
    spec = LoggedSpec("shop", 5, 2, user_features=("news", "sport"), item_features=items)
    assert spec.features_match == match
    assert len(WeightGroups.of(spec).alike) == match
    features = item_features(np.ones((1, 2)), np.ones((1, 5, 2)), spec.features_match)
    assert features.shape[2] == len(WeightGroups.of_items(2, 2, match).numbers)
    assert features.shape[2] == (2 + 3 + 2 if match else 2 + 4)


def test_items_are_grouped_by_what_they_weigh():
    hidden, seen = WeightGroups.of_items(0, 3, False), WeightGroups.of_items(10, 10, True)
    assert hidden.numbers.tolist() == [1, 1, 1]
    assert seen.numbers.tolist() == [1] * 10 + [0] * 3 + [4] * 10
    padded = hidden.padded(2, 1)
    assert padded.numbers.tolist() == [0, 0, 1, 1, 1, 0]
    assert padded.alike.shape == (0, 6)
