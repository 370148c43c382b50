"""The bandit for clicks against a general optimiser, and where products are not enough."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from slateflow.errors import InputError
from slateflow.learners import learner_config, train
from tests.trajectories.sources.shop import log, published


def logged(make_logs, worth, episodes: int = 60, seed: int = 0, parts: int = 1, paid=None):
    """Logs of five steps and four candidates; worth(user, candidate) is the click rate."""
    rng = np.random.default_rng(seed)
    user, candidates = rng.random((episodes, 5)), rng.random((episodes, 5, 4))
    action = rng.integers(0, 4, (episodes, 5))
    chosen = np.take_along_axis(candidates, action[..., None], axis=2)[..., 0]
    clicked = rng.random((episodes, 5)) < worth(user, chosen)
    reward = np.where(clicked, 1.0 if paid is None else paid(rng, chosen), 0.0)
    return make_logs(
        user, candidates, action, reward, clicked=np.where(clicked, 0, -1), parts=parts
    )


def squared_features(user, candidate) -> np.ndarray:
    """(R, 9) products of (1, u, u²) and (1, x, x²)."""
    u, x = np.asarray(user, float).ravel(), np.asarray(candidate, float).ravel()
    return np.array([a * b for a in (u**0, u, u**2) for b in (x**0, x, x**2)]).T


def slope(user, candidate):
    return special.expit(-1 + 4 * (user - 0.5) * candidate)


PAID = {
    "clicks": None,
    "between two bounds": lambda rng, chosen: 1 + chosen + rng.random(chosen.shape),
    "some negative": lambda rng, chosen: chosen - rng.random(chosen.shape),
}


@pytest.mark.parametrize("kind", PAID)
@pytest.mark.parametrize("ridge", [0.3, 5.0])
def test_the_weights_are_those_of_a_general_optimiser(make_logs, ridge, kind):
    dataset = logged(make_logs, slope, paid=PAID[kind])
    rows = dataset.read()
    chosen = rows.candidates[np.arange(len(rows)), rows.slate[:, 0], 0]
    x, paid = squared_features(rows.user[:, 0], chosen), rows.reward.astype(float)
    target = (paid - paid.min()) / (paid.max() - paid.min())

    def objective(weights):
        odds = x @ weights
        value = np.logaddexp(0, odds).sum() - target @ odds + ridge * weights @ weights / 2
        return value, x.T @ (special.expit(odds) - target) + ridge * weights

    found = optimize.minimize(objective, np.zeros(9), jac=True, method="BFGS", tol=1e-9)
    scorer, _ = train(dataset, learner_config("logistic", ridge=ridge))
    np.testing.assert_allclose(scorer.head[0], found.x, atol=2e-3)
    asked = np.linspace(0, 1, 7)
    scores = scorer.scores(asked[:, None], np.zeros(7, int), np.tile(asked[:, None], (7, 1, 1)))
    for u in range(7):
        expected = squared_features(np.full(7, asked[u]), asked) @ found.x
        np.testing.assert_allclose(scores[u], expected, atol=2e-3)


@pytest.mark.parametrize("ridge", [0.001, 1.0, 1000.0])
@pytest.mark.parametrize(("low", "high"), [(1950, 2008), (100, 90_000)])
def test_columns_of_any_scale_have_the_weights_of_a_general_optimiser(tmp_path, low, high, ridge):
    """The optimiser has centred columns of size 1 and the corresponding penalty."""
    rng = np.random.default_rng(0)
    year, item = rng.integers(low, high, 2000), rng.integers(0, 3, 2000)
    mean, deviation = year.mean(), year.std()
    size = (year - mean) / deviation
    clicked = rng.random(2000) < special.expit(-1 + size * (item - 1))
    columns = {"year": year, "item": item, "propensity": 1 / 3, "reward": clicked.astype(int)}
    log(tmp_path, "log.parquet", {name: np.broadcast_to(of, 2000) for name, of in columns.items()})
    dataset = published(tmp_path, '[columns]\nuser = ["year"]\n')
    of_user = np.stack([np.ones(2000), size, size**2], axis=1)
    of_item = np.concatenate([np.ones((3, 1)), np.eye(3)], axis=1)
    x = np.einsum("ru,rm->rum", of_user, of_item[item]).reshape(2000, 12)
    # (1, year, year²) by (1, size, size²), and the weights of those by the weights of these
    change = [[1, 0, 0], [mean, deviation, 0], [mean**2, 2 * mean * deviation, deviation**2]]
    back = np.kron(np.linalg.inv(change).T, np.eye(4))

    def objective(weights):
        odds, of_years = x @ weights, back @ weights
        value = np.logaddexp(0, odds).sum() - clicked @ odds + ridge * of_years @ of_years / 2
        return value, x.T @ (special.expit(odds) - clicked) + ridge * back.T @ of_years

    found = optimize.minimize(objective, np.zeros(12), jac=True, method="BFGS", tol=1e-6)
    expected = np.einsum("ru,im,um->ri", of_user, of_item, found.x.reshape(3, 4))
    scorer, _ = train(dataset, learner_config("logistic", ridge=ridge))
    features = dataset.read().candidate_features(slice(None))
    scores = scorer.scores(dataset.read().user, np.zeros(2000, int), features)
    np.testing.assert_allclose(scores, expected, atol=0.02)


def test_parts_make_no_difference(make_logs):
    one, many = (
        train(logged(make_logs, slope, parts=parts), learner_config("logistic"))[0]
        for parts in (1, 5)
    )
    np.testing.assert_allclose(one.head, many.head, rtol=1e-6)


def share_of_the_optimum(scorer, worth) -> float:
    """Score over 4,000 users with four candidates each: 0 is random, 1 the best."""
    rng = np.random.default_rng(9)
    user, offered = rng.random((4000, 1)), rng.random((4000, 4, 1))
    every = worth(user, offered[:, :, 0])
    best = scorer.scores(user, np.zeros(4000, int), offered).argmax(axis=1)
    earned = every[np.arange(4000), best].mean()
    return float((earned - every.mean()) / (every.max(axis=1).mean() - every.mean()))


def nearest(user, candidate):
    """Click rates: users like candidates near to them, and higher users click more."""
    return special.expit(-1 + 2 * user - 12 * np.square(candidate - user))


def test_what_lies_near_the_user_is_found(make_logs):
    """Products of user and candidate rank candidates only upwards or downwards."""
    dataset = logged(make_logs, nearest, episodes=2000)
    shares = {
        learner: share_of_the_optimum(train(dataset, learner_config(learner))[0], nearest)
        for learner in ("linucb", "lints", "logistic")
    }
    assert shares["logistic"] > 0.98
    assert max(shares["linucb"], shares["lints"]) < 0.75


@pytest.mark.parametrize("seed", range(3))
def test_where_products_are_enough_nothing_is_lost(make_logs, seed):
    dataset = logged(make_logs, slope, episodes=1000, seed=seed)
    scorer, _ = train(dataset, learner_config("logistic"))
    assert share_of_the_optimum(scorer, slope) > 0.95


@pytest.mark.parametrize("seed", [6, 7, 18, 22, 23])
def test_money_beside_columns_far_from_zero_does_not_shrink_everything_to_nothing(tmp_path, seed):
    """With a prior chosen after a step that went too far, one item was the best for all users."""
    rng, rows = np.random.default_rng(seed), 2000
    price = np.exp(rng.normal(7.8, 1.0, rows))
    fits = np.clip(np.round(2 + rng.normal(size=rows)), 0, 4).astype(int)
    columns = {
        "price": price,
        "depth": 62 + 0.84 * (fits - 2) + rng.normal(size=rows),
        "table": 57 + 2 * rng.normal(size=rows),
        "carat": np.log(price / 2000) / 2 + 1.2,
    }
    item = rng.integers(0, 5, rows)
    logs = {"item": item, "propensity": 0.2, "reward": price * (item == fits)}
    log(tmp_path, "log.parquet", {**columns, **logs})
    dataset = published(tmp_path, '[columns]\nuser = ["price", "depth", "table", "carat"]\n')
    scorer, _ = train(dataset, learner_config("logistic"))
    scores = scorer.scores(
        np.column_stack([*columns.values()]), np.zeros(rows, int), np.tile(np.eye(5), (rows, 1, 1))
    )
    found = price[np.argmax(scores, axis=1) == fits].sum()
    assert found > 1.1 * max(price[fits == one].sum() for one in range(5))


def test_certain_clicks_leave_finite_scores(make_logs):
    dataset = logged(make_logs, lambda user, candidate: 1.0 * (candidate > 0.5))
    scorer, _ = train(dataset, learner_config("logistic"))
    assert np.abs(scorer.head).max() < 1e6
    assert share_of_the_optimum(scorer, lambda user, candidate: candidate > 0.5) > 0.97


def test_rewards_that_are_all_the_same_are_refused(make_logs):
    dataset = logged(make_logs, lambda user, candidate: np.ones_like(user))
    with pytest.raises(InputError, match="expected rewards that vary, got 1 every time"):
        train(dataset, learner_config("logistic"))


@pytest.mark.parametrize("first", [0, 2019, 719_000])
def test_years_are_squared_less_an_origin(tmp_path, first):
    """Each user likes items of one's own year; squares of years once hid which year that is."""
    rng, rows, years = np.random.default_rng(0), 4000, np.arange(6)
    born, item = rng.integers(0, 6, rows), rng.integers(0, 6, rows)
    likely = special.expit(0.5 - np.square(born[:, None] - years))
    clicked = rng.random(rows) < likely[np.arange(rows), item]
    columns = {"year": first + born, "item": item, "propensity": 1 / 6, "reward": clicked * 1}
    log(tmp_path, "log.parquet", {name: np.broadcast_to(of, rows) for name, of in columns.items()})
    lines = [f"{year},{first + year}" for year in years]
    (tmp_path / "items.csv").write_text("\n".join(["item,made", *lines]) + "\n")
    items = '[items]\nfile = "items.csv"\nfeatures = ["made"]\ntell_apart = "never"\n'
    dataset = published(tmp_path, f'[columns]\nuser = ["year"]\n{items}')
    scorer, _ = train(dataset, learner_config("logistic"))
    known = dataset.read()
    found = scorer.scores(known.user, known.step, known.candidate_features()).argmax(axis=1)
    assert (found == born).mean() > 0.95
