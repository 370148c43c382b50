"""Expected rewards against closed forms, for artificial rewards with known noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.reward_model import (
    Kind,
    RewardModel,
    expected_rewards,
    fitted_model,
)
from slateflow.user_models.splines import Knots

NOISE = 0.5


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Trajectories:
    """Users and candidates of a real log; tests replace the rewards."""
    recipe = Recipe("r", "modified-lts-10-1", 200, 3, {"random": 1.0})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("rows")))).read()


def with_rewards(rows: Trajectories, kind: str) -> tuple[Trajectories, np.ndarray]:
    """The rows with noisy rewards, and their expectations."""
    user = rows.user[:, 0].astype(float)
    document = rows.candidates[np.arange(len(rows)), rows.slate[:, 0], 0].astype(float)
    noise = NOISE * np.random.default_rng(0).standard_normal(len(rows))
    if kind == "unequal noise":  # as where kale is noisier than chocolate
        deviation = 0.1 + 0.9 * (1 - document)
        log, noise = 2.0 + 0.3 * document, deviation * noise / NOISE
        reward, expected = np.exp(log + noise), np.exp(log + deviation**2 / 2)
    elif kind == "noise of users":
        deviation = NOISE * np.exp(0.3 * (user - user.mean()) / user.std())
        log, noise = 2.0 + 0.3 * document, deviation * noise / NOISE
        reward, expected = np.exp(log + noise), np.exp(log + deviation**2 / 2)
    elif kind == "log-normal":
        log = 1.0 + 0.3 * user + 0.2 * document - 0.4 * user * document
        reward, expected = np.exp(log + noise), np.exp(log + NOISE**2 / 2)
    else:
        expected = 3 * user - 2 * document + 4 * document**3
        reward = expected + noise
    return dataclasses.replace(rows, reward=reward.astype(np.float32)), expected


@pytest.mark.parametrize("kind", ["log-normal", "unequal noise", "noise of users", "cubic"])
def test_the_noise_is_taken_out(logs, kind):
    rows, expected = with_rewards(logs, kind)
    noise = np.std(rows.reward - expected)
    assert (
        np.sqrt(np.mean((expected_rewards(rows, fitted_model(rows)) - expected) ** 2))
        < 0.05 * noise
    )


@pytest.mark.parametrize(("kind", "columns"), [("unequal noise", 1), ("noise of users", 2)])
def test_users_are_in_the_noise_only_where_it_depends_on_them(logs, kind, columns):
    """Chance in the noise of users would be a preference, multiplied by all later steps."""
    rows, _ = with_rewards(logs, kind)
    assert len(fitted_model(rows).noise.offset) == columns


@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_the_variance_is_that_of_the_residuals(slope):
    """A common variance is the mean square; a varying one has its true logarithm."""
    rng = np.random.default_rng(2)
    x = rng.random((20_000, 1))
    deviation = np.exp((-1 + slope * x[:, 0]) / 2)
    reward = 5 + x[:, 0] + deviation * rng.standard_normal(len(x))
    flat = RewardModel.fit(Kind(1, False), x, reward)
    fitted = np.polyval(np.polyfit(x[:, 0], reward, 1), x[:, 0])
    assert np.exp(flat.noise_weights[0]) == pytest.approx(np.mean((reward - fitted) ** 2), rel=1e-5)
    model = RewardModel.fit(Kind(1, False, noise_degree=1), x, reward)
    found = model.noise.design(np.array([[0.0], [1.0]])) @ model.noise_weights
    np.testing.assert_allclose(found, [-1, slope - 1], atol=0.1)


def test_a_step_without_a_click_keeps_its_reward(logs):
    rows, _ = with_rewards(logs, "cubic")
    clicked = rows.clicked.copy()
    clicked[::7] = -1
    found = expected_rewards(
        dataclasses.replace(rows, clicked=clicked),
        fitted_model(dataclasses.replace(rows, clicked=clicked)),
    )
    np.testing.assert_array_equal(found[::7], rows.reward[::7])
    assert not np.isclose(found[1::7], rows.reward[1::7]).any()


def test_where_nothing_is_clicked_nothing_is_expected(logs):
    model, none = fitted_model(logs), np.full(len(logs), -1, np.int32)
    found = expected_rewards(dataclasses.replace(logs, clicked=none), model)
    np.testing.assert_array_equal(found, logs.reward)


def test_rewards_stay_as_they_are_where_no_episode_can_be_held_out(logs):
    rows, _ = with_rewards(logs, "cubic")
    few = rows.where(rows.episode < 4)
    np.testing.assert_array_equal(expected_rewards(few, fitted_model(few)), few.reward)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_polynomial_is_that_of_polyfit(degree):
    """If the logs determine all weights, the prior has hardly any effect."""
    rng = np.random.default_rng(degree)
    x = rng.random((50, 1))
    reward = 5 + np.polyval([*[3, -4, 3][-degree:], 1], x[:, 0]) + 1e-4 * rng.random(50)
    model = RewardModel.fit(Kind(degree, False), x, reward)
    fitted = np.polyval(np.polyfit(x[:, 0], reward, degree), x[:, 0])
    np.testing.assert_allclose(model.expected(x), fitted, rtol=1e-6)
    # The smearing estimate keeps the mean of the ratios of reward and prediction at 1.
    log = RewardModel.fit(Kind(degree, True), x, reward).expected(x)
    logarithm = np.polyval(np.polyfit(x[:, 0], np.log(reward), degree), x[:, 0])
    np.testing.assert_allclose(log / np.exp(logarithm), (log / np.exp(logarithm))[0], rtol=1e-4)
    assert np.mean(reward / log) == pytest.approx(1, rel=1e-9)


def logs_of_features(
    users: int, seed: int = 1, episodes: int = 60
) -> tuple[Trajectories, np.ndarray]:
    """Episodes of 10 steps, and expected rewards by users and the shown item's feature."""
    rng, steps = np.random.default_rng(seed), 10
    rows = episodes * steps
    user, candidates = rng.standard_normal((rows, users)), rng.standard_normal((rows, 10, 1))
    expected = user[:, 0] * candidates[:, 0, 0]
    logs = Trajectories(
        episode=np.repeat(np.arange(episodes), steps),
        step=np.tile(np.arange(steps, dtype=np.int32), episodes),
        user=user,
        candidates=candidates,
        slate=np.zeros((rows, 1), np.int32),
        propensity=np.ones(rows),
        clicked=np.zeros(rows, np.int32),
        reward=expected + rng.standard_normal(rows),
        responses={},
        terminated=np.zeros(rows, np.bool_),
        truncated=np.zeros(rows, np.bool_),
    )
    return logs, expected


def bent(x: np.ndarray) -> np.ndarray:
    """A taste with a narrower peak than a cubic has."""
    return np.exp(-0.5 * (x / 0.25) ** 2)


@pytest.mark.parametrize("user_size", [None, 2, 1])
def test_rewards_that_peak_are_followed_by_a_spline(user_size):
    """The memory of a session, after the user's own features, has no spline."""
    logs, _ = logs_of_features(2)
    expected = bent(logs.user[:, 1]) * (1 + logs.candidates[:, 0, 0])
    noise = 0.3 * np.random.default_rng(5).standard_normal(len(logs))
    rows = dataclasses.replace(logs, reward=expected + noise)
    model = fitted_model(rows, user_size)
    wrong = np.mean((expected_rewards(rows, model) - expected) ** 2)
    if user_size == 1:
        assert 1 not in model.polynomial.knots.feature
        assert wrong > 0.3 * expected.var()
    else:
        assert 1 in model.polynomial.knots.feature
        assert wrong < 0.1 * expected.var()


def test_what_does_not_bend_has_no_knots():
    logs, _ = logs_of_features(2)
    polynomial = fitted_model(logs).polynomial
    assert not len(polynomial.knots.feature)
    assert not len(polynomial.random)


def test_rewards_that_bend_along_a_sum_are_followed_by_random_features():
    """Neither a cubic nor a spline of one column can fit them."""
    logs, _ = logs_of_features(2, episodes=400)
    liked = logs.user.sum(axis=1) + logs.candidates[:, 0, 0]
    expected = np.sin(1.5 * liked)
    noise = 0.3 * np.random.default_rng(5).standard_normal(len(logs))
    rows = dataclasses.replace(logs, reward=expected + noise)
    model = fitted_model(rows)
    assert len(model.polynomial.random)
    wrong = np.mean((expected_rewards(rows, model) - expected) ** 2)
    assert wrong < 0.1 * expected.var()
    x = np.column_stack([logs.user, logs.candidates[:, 0]])
    for kind in (Kind(3, False), Kind(2, False, knots=Knots.at_quantiles(x, 7))):
        plain = RewardModel.fit(kind, x, rows.reward, 2).expected(x)
        assert np.mean((plain - expected) ** 2) > 2 * wrong


def test_many_features_do_not_hide_what_users_differ_by():
    """One of 322 products matters; least squares without a prior fit the noise."""
    logs, expected = logs_of_features(160)
    found = expected_rewards(logs, fitted_model(logs))
    assert np.corrcoef(found, expected)[0, 1] > 0.8
    x = np.column_stack([logs.user, logs.user * logs.candidates[:, 0], logs.candidates[:, 0]])
    plain = x @ np.linalg.lstsq(x, logs.reward, rcond=None)[0]
    assert np.mean((found - expected) ** 2) < 0.5 * np.mean((plain - expected) ** 2)


def test_too_many_features_are_taken_as_they_are():
    logs, _ = logs_of_features(1_500)
    np.testing.assert_array_equal(expected_rewards(logs, fitted_model(logs)), logs.reward)


@pytest.mark.parametrize("prices", [1, 7])
def test_clicks_have_no_noise_of_their_own(logs, prices):
    """With hardly any clicks their variance is near 0, which a normal model would rely on.

    The same holds where a click earns one of several prices.
    """
    user = logs.user[:, 0].astype(float)
    rng = np.random.default_rng(3)
    probability = 1 / (1 + np.exp(6 - 8 * user))
    clicks = (rng.random(len(logs)) < probability).astype(np.float32)
    earned = clicks * rng.integers(1, prices + 1, len(logs))
    model = fitted_model(dataclasses.replace(logs, reward=earned.astype(np.float32)))
    assert len(model.noise_weights) == 1
    assert not model.logarithmic


def test_what_a_visitor_alone_has_says_nothing_of_others(logs):
    """A column identifies 12 visitors: their moods predict held-out sessions, not visitors."""
    rng = np.random.default_rng(3)
    who = rng.integers(0, 12, len(logs.starts))[logs.sessions]
    user, reward = logs.user.copy(), rng.normal(size=12)[who] + 0.5 * rng.normal(size=len(who))
    user[:, 0] = rng.permutation(12)[who] / 12
    rows = dataclasses.replace(logs, user=user, reward=reward.astype(np.float32))
    known = dataclasses.replace(rows, visitor=who)
    followed = [float(expected_rewards(one, fitted_model(one)).std()) for one in (rows, known)]
    assert followed[0] > 0.5
    assert followed[1] < 0.2
