"""Bandits against plain loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns
from slateflow.learners import learner_config, train
from slateflow.learners.acting_bandits import LinUCB
from slateflow.learners.bandits import (
    LinearPosterior,
    LinearStatistics,
)
from slateflow.policies import ScoringPolicy, behaviour_policy
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.user_models.bilinear import Block, dataset_statistics, feature_count
from tests.learners.linear import linear_scorer
from tests.trajectories.sources.shop import log, published

WEIGHTS = np.array([2.0, 3.0, -1.5, 4.0])  # of 1, candidate, user, user × candidate


def made_up(make_logs, noise: float = 0.0, seed: int = 0, parts: int = 1, episodes: int = 60):
    """Logs with rewards that are bilinear in user and candidate."""
    rng = np.random.default_rng(seed)
    user, candidates = rng.random((episodes, 5)), rng.random((episodes, 5, 4))
    action = rng.integers(0, 4, (episodes, 5))
    chosen = np.take_along_axis(candidates, action[..., None], axis=2)[..., 0]
    reward = WEIGHTS[0] + WEIGHTS[1] * chosen + (WEIGHTS[2] + WEIGHTS[3] * chosen) * user
    reward += noise * rng.standard_normal(reward.shape)
    return make_logs(user, candidates, action, reward, parts=parts)


def seen_rows(dataset) -> tuple[list[list[float]], list[float]]:
    """Features and rewards of the first place, row by row; 0 without a click there."""
    rows, features, rewards = dataset.read(), [], []
    for i in range(len(rows)):
        user, candidate = float(rows.user[i, 0]), float(rows.candidates[i, rows.slate[i, 0], 0])
        features.append([1.0, candidate, user, user * candidate])
        rewards.append(float(rows.reward[i]) if rows.clicked[i] == 0 else 0.0)
    return features, rewards


@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_linucb_is_ridge_regression_row_by_row(logs, ridge):
    features, rewards = seen_rows(logs)
    A, b = ridge * np.eye(4), np.zeros(4)
    for x, reward in zip(features, rewards, strict=True):
        A += np.outer(x, x)
        b += np.multiply(x, reward)
    scorer, report = train(logs, learner_config("linucb", ridge=ridge))
    weights = scorer.head[0]
    np.testing.assert_allclose(weights, np.linalg.solve(A, b), rtol=1e-6)
    assert report.rows == len(features) == 200 * 120


def test_candidates_without_a_click_count_with_a_reward_of_0(make_logs):
    rng = np.random.default_rng(0)
    user, candidates = rng.random((30, 4)), rng.random((30, 4, 3))
    action, reward = rng.integers(0, 3, (30, 4)), rng.random((30, 4))
    clicked = rng.integers(-1, 1, (30, 4))
    dataset = make_logs(user, candidates, action, reward, clicked)
    features, rewards = seen_rows(dataset)
    assert 20 < np.count_nonzero(rewards) < 100
    statistics = dataset_statistics(dataset)
    np.testing.assert_allclose(statistics.gram, np.transpose(features) @ np.array(features))
    np.testing.assert_allclose(statistics.moment, np.transpose(features) @ np.array(rewards))
    assert statistics.reward_squares == pytest.approx(sum(r * r for r in rewards))
    assert statistics.rows == len(features)


@pytest.mark.parametrize("place", [-2, 2])
def test_clicks_at_no_place_are_refused(place):
    spec = preset("modified-lts-20-2")
    seen = {
        "user": np.ones((3, spec.user_size), np.float32),
        "candidates": np.random.default_rng(0).random((3, 20, 1), np.float32),
        "step": np.zeros((3, 1), np.int32),
    }
    slates, clicked = np.tile([4, 5], (3, 1)), np.array([0, place, 1], np.int32)
    with pytest.raises(InputError, match=f"expected places from 0 to 1, .*{place}"):
        LinUCB(spec).update(seen, slates, clicked, np.ones(3))


def test_statistics_add_up_over_parts(make_logs):
    dataset = made_up(make_logs, noise=1.0, parts=7)
    whole, summed = (
        LinearStatistics.from_rows(dataset.read(), dataset.spec),
        dataset_statistics(dataset),
    )
    assert len(dataset.parts) == 7
    np.testing.assert_allclose(summed.gram, whole.gram, rtol=1e-12)
    np.testing.assert_allclose(summed.moment, whole.moment, rtol=1e-12)
    assert summed.reward_squares == pytest.approx(whole.reward_squares, rel=1e-12)
    assert summed.rows == whole.rows == 300


def test_known_weights_are_recovered(make_logs):
    scorer, _ = train(made_up(make_logs), learner_config("linucb"))
    assert scorer.head[0] == pytest.approx(WEIGHTS, abs=1e-4)
    shrunk, _ = train(made_up(make_logs), learner_config("linucb", ridge=1e9))
    assert shrunk.head[0] == pytest.approx([0] * 4, abs=1e-5)


def test_the_noise_is_that_of_the_residuals(make_logs):
    dataset = made_up(make_logs, noise=0.5)
    features, rewards = seen_rows(dataset)
    posterior = LinearPosterior.from_statistics(dataset_statistics(dataset), ridge=1.0)
    residuals = [
        reward - sum(w * v for w, v in zip(posterior.mean, x, strict=True))
        for x, reward in zip(features, rewards, strict=True)
    ]
    residuals.append(float(np.std(rewards)))  # the prior
    expected = (sum(r * r for r in residuals) / len(residuals)) ** 0.5
    assert posterior.noise == pytest.approx(expected, rel=1e-6)
    assert posterior.noise == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("exploration", [0.5, 2.0])
def test_draws_have_the_mean_and_covariance_of_the_posterior(make_logs, exploration):
    dataset = made_up(make_logs, noise=1.0, episodes=10)
    features, rewards = (np.array(values) for values in seen_rows(dataset))
    precision = features.T @ features + 1.5 * np.eye(4)
    mean = np.linalg.solve(precision, features.T @ rewards)
    noise = (np.sum((rewards - features @ mean) ** 2) + np.var(rewards)) / (len(rewards) + 1)
    covariance = exploration**2 * noise * np.linalg.inv(precision)
    posterior = LinearPosterior.from_statistics(dataset_statistics(dataset), ridge=1.5)
    rng = np.random.default_rng(0)
    draws = np.array([posterior.draw(rng, exploration) for _ in range(40_000)])
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs((draws.mean(axis=0) - mean) / deviation).max() < 4 / 200
    difference = np.cov(draws.T) - covariance
    assert np.abs(difference / np.outer(deviation, deviation)).max() < 0.03


def test_thompson_sampling_draws_by_the_seed(make_logs):
    dataset, config = made_up(make_logs, noise=1.0), learner_config("lints")
    one, again, other = (train(dataset, config, seed)[0].head for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()
    calm, _ = train(dataset, learner_config("lints", exploration=0), seed=1)
    np.testing.assert_array_equal(calm.head, train(dataset, learner_config("linucb"))[0].head)


@pytest.mark.parametrize("observed", [True, False])
def test_the_scorer_is_the_plain_dot_product(observed):
    spec = preset("modified-lts-20-2", satisfaction_observed=observed)
    size = 3 if observed else 2
    rng = np.random.default_rng(0)
    weights = rng.normal(size=size)
    user, candidates = rng.random((6, size - 2)), rng.random((6, 20, 1))
    scores = linear_scorer(weights, spec).scores(user, np.arange(6) * 23, candidates)
    for b in range(6):
        for n in range(20):
            x = [1.0, *user[b], *candidates[b, n]]
            assert scores[b, n] == pytest.approx(sum(np.multiply(weights, x)))


@pytest.mark.parametrize("learner", ["linucb", "lints"])
def test_bandits_learn_to_show_the_sweetest(logs, learner):
    """Bandits consider only the reward of the step, and chocolate pays at once."""
    scorer, report = train(logs, learner_config(learner))
    candidates = np.random.default_rng(0).random((50, 20, 1), dtype=np.float32)
    slates, _ = ScoringPolicy(scorer).act(
        {"user": np.full((50, 1), 0.5), "step": np.zeros((50, 1), int), "candidates": candidates},
        np.random.default_rng(0),
    )
    np.testing.assert_array_equal(slates, np.argsort(-candidates[:, :, 0], axis=1)[:, :2])
    assert report.curves == {}
    returns = episode_returns(logs.spec, ScoringPolicy(scorer), 1000, seed=0)
    assert abs(returns.mean() - 1163.66) < 4 * returns.std() / 1000**0.5  # as published


@pytest.mark.parametrize("learner", ["linucb", "lints"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("column", ["reward", "user", "candidates"])
def test_numbers_that_are_none_are_refused(make_logs, learner, bad, column):
    rng = np.random.default_rng(0)
    columns = {
        "user": rng.random((3, 4)),
        "candidates": rng.random((3, 4, 2)),
        "reward": rng.random((3, 4)),
    }
    columns[column][(1, 2, 0)[: columns[column].ndim]] = bad
    dataset = make_logs(action=np.zeros((3, 4), dtype=int), **columns)
    with pytest.raises(InputError, match=f"^{column}: expected finite numbers, got NaN or inf"):
        train(dataset, learner_config(learner))


@pytest.mark.parametrize("learner", ["linucb", "lints"])
def test_logs_without_a_click_are_refused(make_logs, learner):
    rng = np.random.default_rng(0)
    dataset = make_logs(
        rng.random((3, 4)), rng.random((3, 4, 2)), np.zeros((3, 4)), rng.random((3, 4)),
        clicked=np.full((3, 4), -1),
    )  # fmt: skip
    with pytest.raises(InputError, match="expected rows with a click, got none with a reward"):
        train(dataset, learner_config(learner))


@pytest.mark.parametrize("seed", range(20))
def test_rounding_hides_no_constant(seed):
    """A Cholesky factor of the singular matrix exists every other time."""
    rng = np.random.default_rng(seed)
    features = np.column_stack([np.ones(1000), rng.random(1000), np.full(1000, rng.random())])
    moment = features.sum(axis=0)
    statistics = LinearStatistics(features.T @ features, moment, 1000.0, 1000, moment)
    with pytest.raises(InputError, match="expected values that vary"):
        LinearPosterior.from_statistics(statistics, ridge=0.0)


@pytest.mark.parametrize(("low", "high"), [(1950, 2008), (100, 90_000)])
def test_columns_of_any_scale_have_the_weights_of_least_squares(tmp_path, low, high):
    """The same as with centred columns of size 1 and the corresponding penalty."""
    rng = np.random.default_rng(0)
    year, item = rng.integers(low, high, 2000), rng.integers(0, 3, 2000)
    mean, deviation = year.mean(), year.std()
    size = (year - mean) / deviation
    reward = size * (item - 1) + rng.normal(size=2000)
    columns = {"year": year, "item": item, "propensity": 1 / 3, "reward": reward}
    log(tmp_path, "log.parquet", {name: np.broadcast_to(of, 2000) for name, of in columns.items()})
    dataset = published(tmp_path, '[columns]\nuser = ["year"]\n')
    of_user = np.stack([np.ones(2000), size], axis=1)
    of_item = np.concatenate([np.ones((3, 1)), np.eye(3)], axis=1)
    x = np.einsum("ru,rm->rum", of_user, of_item[item]).reshape(2000, 8)
    back = np.kron(np.linalg.inv([[1, 0], [mean, deviation]]).T, np.eye(4))
    penalty = np.sqrt(0.001) * back
    both = np.concatenate([x, penalty]), np.concatenate([reward, np.zeros(8)])
    weights = np.linalg.lstsq(*both, rcond=None)[0]
    expected = np.einsum("ru,im,um->ri", of_user, of_item, weights.reshape(2, 4))
    scorer, _ = train(dataset, learner_config("linucb", ridge=0.001))
    features = dataset.read().candidate_features(slice(None))
    scores = scorer.scores(dataset.read().user, np.zeros(2000, int), features)
    np.testing.assert_allclose(scores, expected, atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1 / 3, 1.0])
def test_constant_candidates_are_refused_with_any_ridge(make_logs, constant):
    rng = np.random.default_rng(0)
    dataset = make_logs(
        rng.random((9, 4)), np.full((9, 4, 2), constant), np.zeros((9, 4)), rng.random((9, 4))
    )
    for ridge in (0, 1):
        with pytest.raises(InputError, match=r"^candidates: expected clicked candidates that vary"):
            train(dataset, learner_config("linucb", ridge=ridge))


def test_places_of_a_slate_have_weights_of_their_own():
    """Three places, the first clicked most: the loop has columns for the other two."""
    rng, size = np.random.default_rng(3), 3
    user, shown = rng.random((40, 2)), rng.random((40, size, 2))
    clicked, reward = rng.integers(-1, size, 40), rng.random(40)
    statistics = LinearStatistics.from_block(Block.from_shown(user, shown, clicked, reward))
    gram, moment = np.zeros((11, 11)), np.zeros(11)
    for u, slate, click, paid in zip(user, shown, clicked, reward, strict=True):
        for place in range(size):
            x = np.outer([1, *u], [1, *slate[place]]).ravel().tolist()
            x += [float(place == other) for other in (1, 2)]
            gram += np.outer(x, x)
            moment += np.array(x) * (paid if place == click else 0.0)
    np.testing.assert_allclose(statistics.gram, gram, rtol=1e-12)
    np.testing.assert_allclose(statistics.moment, moment, rtol=1e-12)
    assert statistics.rows == 40 * size


@pytest.mark.parametrize("learner", ["linucb", "lints"])
def test_the_best_candidate_depends_on_the_user(make_logs, learner):
    """Users above one half like high candidates, others low ones."""
    rng = np.random.default_rng(0)
    user, candidates = rng.random((300, 5)), rng.random((300, 5, 4))
    action = rng.integers(0, 4, (300, 5))
    chosen = np.take_along_axis(candidates, action[..., None], axis=2)[..., 0]

    def worth(user, candidate):
        return 1.0 + (user - 0.5) * (candidate - 0.5)

    reward = worth(user, chosen) + 0.1 * rng.standard_normal(user.shape)
    scorer, _ = train(make_logs(user, candidates, action, reward), learner_config(learner))
    asked, offered = rng.random((2000, 1)), rng.random((2000, 4, 1))
    best = scorer.scores(asked, np.zeros(2000, int), offered).argmax(axis=1)
    every = worth(asked, offered[:, :, 0])
    earned, random, optimum = every[np.arange(2000), best], every.mean(axis=1), every.max(axis=1)
    assert (earned - random).mean() > 0.95 * (optimum - random).mean()


@pytest.mark.integration
@pytest.mark.parametrize("learner", ["linucb", "lints", "logistic"])
@pytest.mark.parametrize(
    ("environment", "episodes", "loss"),
    [
        pytest.param("interest-evolution", 300, 1.0, marks=pytest.mark.slow),
        ("interest-exploration", 300, 0.001 * 300),
    ],
)
def test_where_users_choose_it_earns_what_the_best_match_earns(
    tmp_path, environment, episodes, loss, learner
):
    """The best match is given what learners have to find: which interest belongs to which topic."""
    recipe = Recipe("r", environment, episodes, 3, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config(learner))
    matched = episode_returns(dataset.spec, behaviour_policy("greedy", dataset.spec), 4000, seed=5)
    returns = episode_returns(dataset.spec, ScoringPolicy(scorer), 4000, seed=5)
    assert (returns - matched).mean() > -loss


def test_items_of_a_catalogue_are_summed_up_as_their_features(tmp_path):
    recipe = Recipe("r", "interest-evolution", 3, 1, {"random": 1}, {"num_features": 10})
    dataset = generate(recipe, Folder(str(tmp_path)))
    rows, gram, moment = dataset.read(), np.zeros((123, 123)), np.zeros(123)
    shown = rows.shown_features()
    for i in range(len(rows)):
        for place in range(3):
            x = np.outer([1, *rows.user[i]], [1, *shown[i, place]]).ravel().tolist()
            x += [float(place == other) for other in (1, 2)]
            gram += np.outer(x, x)
            moment += np.array(x) * (rows.reward[i] if place == rows.clicked[i] else 0.0)
    statistics = dataset_statistics(dataset)
    np.testing.assert_allclose(statistics.gram, gram, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(statistics.moment, moment, rtol=1e-9, atol=1e-9)


def test_users_and_items_that_are_indicators_are_counted():
    """50 kinds of users and 80 items: the statistics are their numbers of rows, and rewards."""
    rng = np.random.default_rng(0)
    user, item, reward = rng.integers(0, 50, 4000), rng.integers(0, 80, 4000), rng.random(4000)
    clicked = np.where(rng.random(4000) < 0.3, 0, -1)
    statistics = LinearStatistics.from_block(
        Block.from_shown(np.eye(50)[user], np.eye(80)[item][:, None], clicked, reward)
    )
    met, paid = np.zeros((50, 80)), np.zeros((50, 80))
    np.add.at(met, (user, item), 1)
    np.add.at(paid, (user, item), np.where(clicked == 0, reward, 0))
    pairs = np.arange(51 * 81).reshape(51, 81)[1:, 1:]
    np.testing.assert_allclose(np.diag(statistics.gram)[pairs], met)
    np.testing.assert_allclose(statistics.moment[pairs], paid)
    np.testing.assert_allclose(statistics.gram[0, pairs], met)


def test_too_many_products_are_refused_before_they_fill_the_memory():
    expected = (
        r"^user, candidates: expected at most 5,000 products .* got 251,003 from 500 features"
    )
    with pytest.raises(InputError, match=expected):
        feature_count(preset("interest-evolution", num_features=500))


KINDS = {
    "sessions of one step": {"steps": 1, "clicks": 0.5},
    "hardly any click": {"clicks": 0.02},
    "negative rewards": {"low": -3.0, "clicks": 0.7},
    "candidates in thousands": {"scale": 3000.0, "clicks": 0.7},
}


@pytest.mark.parametrize("learner", ["linucb", "lints", "logistic"])
@pytest.mark.parametrize("kind", KINDS)
def test_logs_of_any_kind_are_learnt_from(make_logs, learner, kind):
    """High candidates pay more, whatever the form of rewards."""
    made = {"steps": 5, "low": 0.0, "scale": 1.0, **KINDS[kind]}
    rng, shape = np.random.default_rng(0), (8000 // made["steps"], made["steps"])
    candidates = rng.random((*shape, 4))
    action = rng.integers(0, 4, shape)
    chosen = np.take_along_axis(candidates, action[..., None], axis=2)[..., 0]
    clicked = np.where(rng.random(shape) < made["clicks"], 0, -1)
    reward = np.where(clicked == 0, made["low"] + chosen + 0.1 * rng.random(shape), 0.0)
    if made["low"] < 0:
        clicked[:] = 0  # a click with a cost is worse than none
        reward = made["low"] + chosen
    logs = make_logs(rng.random(shape), made["scale"] * candidates, action, reward, clicked)
    scorer, _ = train(logs, learner_config(learner))
    offered = rng.random((500, 4, 1))
    scores = scorer.scores(rng.random((500, 1)), np.zeros(500, int), made["scale"] * offered)
    best = offered[np.arange(500), scores.argmax(axis=1), 0]
    most, mean = offered.max(axis=1)[:, 0], offered.mean()
    assert (best - mean).mean() > 0.95 * (most - mean).mean()
