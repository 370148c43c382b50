"""Online bandits against plain loops, and on a problem with a known answer."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from slateflow.environments import batched_environment, preset
from slateflow.errors import InputError
from slateflow.learners.acting_bandits import LinTS, LinUCB
from slateflow.policies import RandomPolicy
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.user_models.bilinear import LinearStatistics, dataset_statistics

SPEC = preset("modified-lts-20-2", num_candidates=6)


def observed(rng: np.random.Generator, users: int) -> dict[str, np.ndarray]:
    return {
        "user": rng.random((users, 1)),
        "candidates": rng.random((users, 6, 1)),
        "step": np.zeros((users, 1), dtype=np.int32),
    }


def history(bandit, steps: int, seed: int = 0, unit: float = 1.0):
    """Steps with random rewards; the clicked features and rewards, row by row."""
    rng, design, rewards = np.random.default_rng(seed), [], []
    for _ in range(steps):
        observation = observed(rng, 4)
        slates = RandomPolicy(2).act(observation, rng)[0]
        clicked = rng.integers(-1, 1, 4).astype(np.int32)
        reward = unit * rng.normal(size=4)
        bandit.update(observation, slates, clicked, reward)
        for user in range(4):  # they click the first place or nothing
            known = observation["user"][user, 0]
            document = observation["candidates"][user, slates[user, 0], 0]
            design.append([1.0, document, known, known * document])
            rewards.append(reward[user] if clicked[user] == 0 else 0.0)
    return np.array(design), np.array(rewards)


def residual_deviation(design, rewards, weights) -> float:
    """Standard deviation around the regression, with a prior row that errs as rewards differ."""
    squares = sum((reward - x @ weights) ** 2 for x, reward in zip(design, rewards, strict=True))
    return math.sqrt((squares + np.var(rewards)) / (len(design) + 1))


@pytest.mark.parametrize("exploration", [0.0, 0.5, 3.0])
def test_linucb_is_the_mean_plus_the_bound_of_the_loop(exploration):
    bandit = LinUCB(SPEC, ridge=0.7, exploration=exploration)
    design, rewards = history(bandit, 40)
    precision, moment = 0.7 * np.eye(4), np.zeros(4)
    for x, reward in zip(design, rewards, strict=True):
        precision += np.outer(x, x)
        moment += reward * x
    inverse = np.linalg.inv(precision)
    noise = residual_deviation(design, rewards, inverse @ moment)
    observation = observed(np.random.default_rng(1), 30)
    slates = bandit.select(observation, np.random.default_rng(0))
    for user in range(30):
        scores = []
        for document in observation["candidates"][user, :, 0]:
            known = observation["user"][user, 0]
            x = np.array([1.0, document, known, known * document])
            bound = exploration * noise * math.sqrt(x @ inverse @ x)
            scores.append(x @ inverse @ moment + bound)
        assert slates[user].tolist() == np.argsort(-np.array(scores)).tolist()[:2]


def test_lints_draws_weights_from_the_posterior():
    bandit = LinTS(SPEC, ridge=0.7, exploration=0.5)
    design, rewards = history(bandit, 40)
    precision = design.T @ design + 0.7 * np.eye(4)
    mean = np.linalg.solve(precision, design.T @ rewards)
    factor = 0.5 * residual_deviation(design, rewards, mean)
    # One candidate per user, whose score is a draw of the weights times its features.
    features = np.tile([1.0, 0.9, 0.4, 0.36], (60_000, 1, 1))
    drawn = bandit._scores(features, np.random.default_rng(5))[:, 0]
    x = features[0, 0]
    deviation = factor * math.sqrt(x @ np.linalg.inv(precision) @ x)
    assert drawn.mean() == pytest.approx(x @ mean, abs=4 * deviation / math.sqrt(60_000))
    assert drawn.std() == pytest.approx(deviation, rel=0.02)
    # All candidates of a user have common weights: scores differ by features times them.
    pair = bandit._scores(np.tile(np.eye(4), (5, 1, 1)), np.random.default_rng(6))
    normal = np.random.default_rng(6).standard_normal((4, 5))
    root = np.linalg.inv(np.linalg.cholesky(precision)).T
    np.testing.assert_allclose(pair, (mean[:, None] + factor * root @ normal).T, rtol=1e-9)


@pytest.mark.parametrize("kind", [LinUCB, LinTS])
@pytest.mark.parametrize("steps", [1, 40])
def test_slates_do_not_depend_on_the_unit_of_rewards(kind, steps):
    observation, found = observed(np.random.default_rng(1), 300), []
    for unit in (1.0, 2.0**-30, 2.0**30):
        bandit = kind(SPEC)
        history(bandit, steps, unit=unit)
        found.append(bandit.select(observation, np.random.default_rng(2)))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("steps", [0, 40])
def test_a_bandit_that_never_earned_explores(steps):
    bandit = LinTS(SPEC)
    history(bandit, steps, unit=0.0)
    slates = bandit.select(observed(np.random.default_rng(1), 300), np.random.default_rng(2))
    assert len(np.unique(slates[:, 0])) == 6


def test_what_is_learnt_later_adds_to_what_was_learnt_before(tmp_path):
    halves = {"random": 0.5, "greedy": 0.5}
    recipes = [Recipe(f"r{i}", "modified-lts-20-2", 6, i, halves) for i in (0, 1)]
    first, second = (generate(recipe, Folder(str(tmp_path))) for recipe in recipes)
    world = first.spec
    bandit = LinUCB(world)
    bandit.partial_fit(first.read())
    kept = bandit.statistics.to_bytes()
    later = LinUCB(world, statistics=LinearStatistics.from_bytes(kept))
    later.partial_fit(second.read())
    whole = dataset_statistics(first) + dataset_statistics(second)
    assert later.statistics.rows == whole.rows == first.rows + second.rows
    np.testing.assert_allclose(later.statistics.gram, whole.gram, rtol=1e-12)
    refit = LinUCB(world, statistics=whole).scorer()
    np.testing.assert_allclose(later.scorer().head, refit.head, rtol=1e-9)
    # By another path: least squares on all rows.
    rows = [dataset.read() for dataset in (first, second)]
    design = np.concatenate([
        np.column_stack([
            np.ones(len(one)), one.candidates[np.arange(len(one)), one.slate[:, 0]], one.user,
            one.user * one.candidates[np.arange(len(one)), one.slate[:, 0]],
        ])
        for one in rows
    ])  # fmt: skip
    rewards = np.concatenate([one.reward for one in rows])
    penalised = np.concatenate([design, np.eye(4)]), np.concatenate([rewards, np.zeros(4)])
    expected = np.linalg.lstsq(*penalised, rcond=None)[0]
    np.testing.assert_allclose(refit.head[0], expected, rtol=1e-3)


@pytest.mark.parametrize("kind", [LinUCB, LinTS])
def test_the_best_candidate_is_found_where_the_weights_are_known(kind):
    spec = preset("modified-lts-10-1")
    bandit, rng = kind(spec, ridge=0.01, exploration=0.3), np.random.default_rng(4)
    weights, hits, size = np.array([0.5, -2.0, 1.0, 0.0]), [], 0
    for step in range(400):
        observation = observed(rng, 1)
        slates = bandit.select(observation, rng)
        user, candidate = observation["user"][0, 0], observation["candidates"][0, slates[0, 0], 0]
        x = [1.0, candidate, user, user * candidate]
        hits.append(slates[0, 0] == observation["candidates"][0, :, 0].argmin())
        reward = np.array([x @ weights + 0.1 * rng.normal()])
        bandit.update(observation, slates, np.zeros(1, dtype=np.int32), reward)
        if step == 10:
            size = len(pickle.dumps(bandit.statistics.gram))
    assert np.mean(hits[-200:]) > 0.95
    np.testing.assert_allclose(bandit.posterior().mean, weights, atol=0.3)
    assert len(pickle.dumps(bandit.statistics.gram)) == size  # whatever it has seen


def test_a_bandit_plays_and_learns_in_a_world():
    spec = preset("modified-lts-20-2")
    bandit, rng = LinTS(spec, exploration=2.0), np.random.default_rng(0)
    env = batched_environment(spec, 50)
    observation, _ = env.reset(seed=1)
    for _ in range(60):
        slates = bandit.select(observation, rng)
        following, rewards, *_, infos = env.step(slates)
        bandit.update(observation, slates, infos["clicked"], rewards)
        observation = following
    assert bandit.statistics.rows == 50 * 60
    # The sweetest is watched most, and a bandit considers nothing more.
    sweetest = observation["candidates"][:, :, 0].argmax(axis=1)
    assert (bandit.select(observation, rng)[:, 0] == sweetest).mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ridge": 0.0}, "ridge: expected more than 0, got 0.0"),
        ({"exploration": -1.0}, "exploration: expected at least 0, got -1.0"),
        ({"statistics": LinearStatistics.none(5)}, "expected those of 4 features, got 5"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LinUCB(SPEC, **settings)
