"""Fitted-Q against a chain solved by enumeration, and against plain least squares."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns, optimal_returns
from slateflow.learners import learner_config, train
from slateflow.learners.config import Curves
from slateflow.learners.fitted_stages import fitted_stages
from slateflow.learners.logged_steps import Parts
from slateflow.policies import RandomPolicy, ScoringPolicy, load_scorer
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.user_models.backward_stages import Stage, StageFile
from slateflow.user_models.polynomial import powers, term_count
from slateflow.user_models.reward_model import expected_rewards, fitted_model
from slateflow.user_models.support import logged_support, rarity_weights

ROOT = Path(__file__).parents[2]

REWARD = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 2.0, (1, 1): 4.5}
"""Rewards of (user, candidate): chocolate (1) pays more at once and leads to user 0, kale to 1."""


def chain(make_logs, copies: int = 1):
    """Every start and every sequence of three choices; both candidates are always on offer."""
    paths = list(product((0, 1), repeat=4)) * copies  # user, then three documents
    user, chosen = np.zeros((len(paths), 3)), np.array([path[1:] for path in paths])
    user[:, 0] = [path[0] for path in paths]
    user[:, 1:] = 1 - chosen[:, :-1]
    # The places of the candidates change, so that a place is uninformative.
    candidates = np.zeros((len(paths), 3, 2))
    candidates[::2, :, 1] = 1
    candidates[1::2, :, 0] = 1
    action = np.argmax(candidates == chosen[..., None], axis=2)
    reward = np.vectorize(lambda u, c: REWARD[u, c])(user.astype(int), chosen)
    return make_logs(user, candidates, action, reward)


def exact_q(steps: int) -> dict[tuple[int, int], float]:
    """Q with a number of steps left, by enumeration of all plans."""
    best = {}
    for user, first in REWARD:
        plans = []
        for plan in product((0, 1), repeat=steps - 1):
            now, total = user, 0.0
            for document in (first, *plan):
                total += REWARD[now, document]
                now = 1 - document
            plans.append(total)
        best[user, first] = max(plans)
    return best


def scores_at(scorer, left: int) -> dict[tuple[int, int], float]:
    """Scores of (user, candidate) with a number of steps left."""
    scores = scorer.scores(
        np.array([[0.0], [1.0]]), np.full(2, scorer.horizon - left), np.array([[[0.0], [1.0]]] * 2)
    )
    return {(user, document): float(scores[user, document]) for user, document in REWARD}


def test_the_chain_is_worth_solving():
    """The best action depends on the user and on the steps left."""
    best = [[max((0, 1), key=lambda c: exact_q(k)[user, c]) for user in (0, 1)] for k in (1, 2, 3)]
    assert best == [[1, 1], [0, 0], [0, 1]]


@pytest.mark.parametrize("degree", [2, 3])
def test_the_chain_is_solved_at_every_number_of_steps_left(make_logs, degree):
    dataset = chain(make_logs)
    deviation = np.std([REWARD[int(u), int(c)] for u, c in _visited(dataset)])
    scorer, report = train(dataset, learner_config("fitted-q", window=3, degree=degree))
    for left in (1, 2, 3):
        learnt, exact = scores_at(scorer, left), exact_q(left)
        for pair in REWARD:
            # Constants are dropped: the mean reward, and the mean value of every stage.
            assert learnt[pair] - learnt[0, 0] == pytest.approx(
                (exact[pair] - exact[0, 0]) / deviation, abs=1e-5
            )
    assert report.curves["residual"] == pytest.approx([0.0] * 3, abs=1e-8)


def _visited(dataset):
    rows = dataset.read()
    chosen = rows.candidates[np.arange(len(rows)), rows.slate[:, 0], 0]
    return zip(rows.user[:, 0], chosen, strict=True)


def test_the_policy_of_the_chain_is_the_best_plan(make_logs):
    scorer, _ = train(chain(make_logs), learner_config("fitted-q", window=3))
    policy = ScoringPolicy(scorer)
    for start in (0, 1):
        user, total = start, 0.0
        for step in range(3):
            observation = {
                "user": np.array([[float(user)]]),
                "step": np.array([[step]]),
                "candidates": np.array([[[1.0], [0.0]]]),
            }
            slates, _ = policy.act(observation, np.random.default_rng(0))
            document = 1 - int(slates[0, 0])
            total, user = total + REWARD[user, document], 1 - document
        assert total == max(exact_q(3)[start, document] for document in (0, 1))


def test_beyond_the_window_the_last_stage_serves(make_logs):
    scorer, _ = train(chain(make_logs), learner_config("fitted-q", window=2))
    assert scorer.head.shape[0] == 2
    assert scores_at(scorer, 3) == scores_at(scorer, 2)


def by_least_squares(dataset, window: int, degree: int, ridge: float) -> np.ndarray:
    """The weights of every stage by `lstsq`, with features computed one by one."""
    rows = dataset.read()
    user, offered = rows.user[:, 0].astype(float), rows.candidates[:, :, 0].astype(float)
    chosen = offered[np.arange(len(rows)), rows.slate[:, 0]]
    reward = expected_rewards(rows, fitted_model(rows))
    reward = (reward - reward.mean()) / reward.std()

    def features(u, c):
        u, c = (u - user.mean()) / user.std(), (c - offered.mean()) / offered.std()
        return np.stack(
            [u ** (total - j) * c**j for total in range(degree + 1) for j in range(total + 1)],
            axis=-1,
        )

    ongoing = np.flatnonzero(~rows.terminated)
    weight = np.sqrt(rarity_weights(logged_support(rows), chosen[ongoing, None]))
    design = weight[:, None] * features(user[ongoing], chosen[ongoing])
    prior = np.sqrt(ridge * len(ongoing)) * np.eye(design.shape[1])
    following = features(
        np.repeat(user[ongoing + 1, None], offered.shape[1], axis=1), offered[ongoing + 1]
    )
    value, stages = np.zeros(len(ongoing)), []
    for _ in range(window):
        target = np.concatenate([weight * (reward[ongoing] + value), np.zeros(len(prior))])
        weights = np.linalg.lstsq(np.concatenate([design, prior]), target, rcond=None)[0]
        best = (following @ weights).max(axis=1)
        value = best - best.mean()
        stages.append(weights)
    return np.array(stages)


@pytest.mark.parametrize(("window", "degree", "ridge"), [(12, 3, 1e-9), (4, 2, 1e-2), (6, 4, 1e-6)])
def test_every_stage_is_a_least_squares_fit(small_logs, window, degree, ridge):
    settings = {"window": window, "degree": degree, "ridge": ridge}
    scorer, _ = train(small_logs, learner_config("fitted-q", **settings))
    expected = by_least_squares(small_logs, **settings)
    # The rewards pass through float32.
    scale = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(scorer.head / scale, expected / scale, rtol=1e-6, atol=1e-6)


def normalised(scorer, spec) -> float:
    """Score between the published means of random, 0, and the optimum, 1."""
    returns = episode_returns(spec, ScoringPolicy(scorer), 2000, seed=0)
    return (returns.mean() - 1157.81) / (1195.80 - 1157.81)


@pytest.mark.integration
def test_200_episodes_are_enough_for_the_optimum(logs):
    assert normalised(train(logs, learner_config("fitted-q"))[0], logs.spec) > 0.99


@pytest.mark.integration
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_100_episodes_are_nearly_enough(tmp_path, seed):
    recipe = Recipe("few", "modified-lts-20-2", 100, seed, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    assert normalised(train(dataset, learner_config("fitted-q"))[0], dataset.spec) > 0.95


@pytest.mark.integration
def test_the_default_recipe_leads_to_the_optimum(default_logs):
    scorer, report = train(default_logs, learner_config("fitted-q"))
    assert normalised(scorer, default_logs.spec) > 0.99
    assert 8 < len(report.curves["residual"]) < 20  # satisfaction forgets a click by .7 a step


def test_clicked_candidates_that_never_vary_are_refused(make_logs):
    rng = np.random.default_rng(0)
    candidates = rng.random((8, 4, 3))
    candidates[:, :, 1] = 0.7
    dataset = make_logs(rng.random((8, 4)), candidates, np.ones((8, 4)), rng.random((8, 4)))
    with pytest.raises(InputError, match="expected clicked candidates that vary"):
        train(dataset, learner_config("fitted-q"))


def personal_taste(rng, shape):
    """Users and candidates of two features; the reward is their scalar product."""
    user, candidates = rng.random((*shape, 2)) * 2 - 1, rng.random((*shape, 4, 2)) * 2 - 1
    action = rng.integers(0, 4, shape)
    chosen = np.take_along_axis(candidates, action[..., None, None], axis=2)[..., 0, :]
    return user, candidates, action, (user * chosen).sum(axis=-1)


def test_sessions_of_a_single_step_are_a_bandit(make_sessions):
    rng = np.random.default_rng(0)
    user, candidates, action, reward = personal_taste(rng, (200, 1))
    dataset = make_sessions(candidates, action, reward, user)
    scorer, report = train(dataset, learner_config("fitted-q"))
    assert len(report.curves["residual"]) == 1
    user, candidates, _, _ = personal_taste(rng, (100, 1))
    best = (candidates[:, 0] @ user[:, 0, :, None])[..., 0].argmax(axis=1)
    scores = scorer.scores(user[:, 0], np.zeros(100, int), candidates[:, 0])
    assert (scores.argmax(axis=1) == best).mean() > 0.97


LEAVING = (0.5, 0.0)
"""Probability that a user leaves after candidate 0, and after candidate 1."""


def leaving_users(rng, sessions: int):
    """Candidate 0 pays 1 and may end the session, candidate 1 pays 0.8; 6 steps at most."""
    columns: dict[str, list] = {"candidates": [], "action": [], "reward": []}
    for _ in range(sessions):
        actions = []
        while len(actions) < 6:
            actions.append(int(rng.integers(2)))
            if rng.random() < LEAVING[actions[-1]]:
                break
        columns["candidates"].append(np.tile([[[0.0], [1.0]]], (len(actions), 1, 1)))
        columns["action"].append(np.array(actions))
        columns["reward"].append(np.where(np.array(actions) == 0, 1.0, 0.8))
    return columns


def test_sessions_that_end_by_themselves_are_worth_prolonging(make_sessions):
    """Centred rewards, as with sessions of one length, would favour leaving."""
    dataset = make_sessions(**leaving_users(np.random.default_rng(0), 400))
    scorer, _ = train(dataset, learner_config("fitted-q"))
    scores = scorer.scores(np.zeros((1, 0)), np.zeros(1, int), np.array([[[0.0], [1.0]]]))
    assert scores[0, 1] > scores[0, 0]


def test_the_window_grows_until_preferences_settle(make_logs):
    """In the chain they change until three steps before the end; a window of 1 is myopic."""
    scorer, report = train(chain(make_logs, copies=4), learner_config("fitted-q", degree=2))
    assert len(report.curves["residual"]) == 3
    assert scores_at(scorer, 2)[0, 0] > scores_at(scorer, 2)[0, 1]


@pytest.mark.parametrize(("shape", "degree"), [("products", 1), ("cubic", 3)])
def test_held_out_episodes_choose_the_degree(make_sessions, shape, degree):
    rng = np.random.default_rng(1)
    user, candidates, action, reward = personal_taste(rng, (150, 5))
    chosen = np.take_along_axis(candidates, action[..., None, None], axis=2)[..., 0, :]
    if shape == "cubic":
        reward = chosen[..., 0] ** 3 - 0.6 * chosen[..., 0]
    reward = reward + 0.01 * rng.standard_normal(reward.shape)
    dataset = make_sessions(candidates, action, reward, user)
    scorer, _ = train(dataset, learner_config("fitted-q", window=1))
    assert len(scorer.powers) == term_count(2, 2, degree)
    if shape == "cubic":
        ranked = scorer.scores(user[:, 0], np.zeros(150, int), candidates[:, 0]).argmax(axis=1)
        value = candidates[:, 0, :, 0] ** 3 - 0.6 * candidates[:, 0, :, 0]
        lost = value.max(axis=1) - np.take_along_axis(value, ranked[:, None], axis=1)[:, 0]
        assert lost.mean() < 0.01


def test_many_features_are_learnt_by_their_products(make_sessions):
    """20 one-hot groups of users like one of 20 one-hot items each: 441 products."""
    rng = np.random.default_rng(2)
    group = rng.integers(0, 20, (4000, 1))
    offered = rng.permuted(np.tile(np.arange(20), (4000, 1)), axis=1)[:, None, :5]
    action = rng.integers(0, 5, (4000, 1))
    liked = np.take_along_axis(offered, action[..., None], axis=2)[..., 0] == group
    dataset = make_sessions(
        np.eye(20)[offered], action, liked.astype(float), user=np.eye(20)[group]
    )
    scorer, _ = train(dataset, learner_config("fitted-q"))
    assert len(scorer.powers) == 441
    every = np.tile(np.eye(20), (20, 1, 1))
    best = scorer.scores(np.eye(20), np.zeros(20, int), every).argmax(axis=1)
    assert best.tolist() == list(range(20))


@pytest.mark.parametrize("few", ["iris", "wine"])
def test_some_clicks_tell_users_apart(make_sessions, few):
    """Users are flowers or wines, and 75 guesses of their kind are right or wrong."""
    measured, kind = getattr(datasets, f"load_{few}")(return_X_y=True)
    measured = (measured - measured.mean(axis=0)) / measured.std(axis=0)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(kind))
    learnt, asked = order[:75], order[75:]
    guess = rng.integers(0, 3, (75, 1))
    dataset = make_sessions(
        np.tile(np.eye(3), (75, 1, 1, 1)),
        guess,
        (guess == kind[learnt, None]).astype(float),
        user=measured[learnt, None],
    )
    scorer, _ = train(dataset, learner_config("fitted-q"))
    every = np.tile(np.eye(3), (len(asked), 1, 1))
    best = scorer.scores(measured[asked], np.zeros(len(asked), int), every).argmax(axis=1)
    assert (best == kind[asked]).mean() > 0.75


def test_too_many_terms_are_refused(make_sessions):
    rng = np.random.default_rng(0)
    user, candidates = rng.random((8, 2, 100)), rng.random((8, 2, 3, 30))
    dataset = make_sessions(candidates, np.ones((8, 2), int), rng.random((8, 2)), user)
    with pytest.raises(InputError, match=r"at most 3,000 terms of degree 1, got 3,131; leave"):
        train(dataset, learner_config("fitted-q"))
    with pytest.raises(InputError, match=r"at most 3,000 terms of degree 2, got 8,646; lower"):
        train(dataset, learner_config("fitted-q", degree=2))


def test_monomials_by_hand():
    """For one user feature u and one candidate feature c."""
    assert {tuple(row) for row in powers(1, 1, 2).tolist()} == {
        (0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1),
    }  # fmt: skip
    assert len(powers(1, 1, 3)) == 10
    assert len(powers(2, 3, 3)) == 56  # 8 over 3


@pytest.mark.parametrize("sizes", [(0, 1), (1, 1), (2, 3)])
def test_terms_are_counted_without_making_them(sizes):
    for degree in range(1, 5):
        assert len(powers(*sizes, degree)) == term_count(*sizes, degree)


def test_parts_that_are_read_at_every_stage_give_the_same_stages(tmp_path):
    recipe = Recipe("r", "modified-lts-20-2", 60, 1, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    kept = Parts.of(dataset)
    reads = []

    def again(function):
        reads.append(1)
        return Parts.of(dataset).map(function)

    def stages(parts):
        return fitted_stages(
            parts, parts.sample.basis(3), 1e-6, 5, lambda done, total: None, Curves()
        )

    once, anew = stages(kept), stages(Parts(again, kept.sample))
    at_once = stages(Parts.in_memory(kept.sample))
    assert len(reads) == len(once) == 5
    assert len(dataset.parts) > 1
    for one, other, together in zip(once, anew, at_once, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_allclose(one.weights, together.weights, rtol=1e-8)
        assert one.residual == other.residual == pytest.approx(together.residual, rel=1e-8)


def test_stages_of_other_terms_are_none(tmp_path):
    file = StageFile(tmp_path / "stages.npz")
    file.write(np.eye(3), 10, [Stage(np.ones(3), 1.0)])
    gram, rows, (stage,) = file.read(3)
    np.testing.assert_array_equal(gram, np.eye(3))
    assert (rows, list(stage.weights), stage.residual) == (10, [1.0] * 3, 1.0)
    gram, rows, stages = file.read(5)
    np.testing.assert_array_equal(gram, np.zeros((5, 5)))
    assert (rows, stages) == (0, [])


@pytest.mark.integration
def test_a_kill_costs_a_stage(tmp_path, monkeypatch):
    recipe = Recipe("r", "modified-lts-20-2", 60, 1, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    monkeypatch.setattr("slateflow.learners.logged_steps.SAMPLE_ROWS", 3_600)
    config = learner_config("fitted-q", window=5, degree=3)
    whole, _ = train(dataset, config, checkpoints=tmp_path / "never")
    killed = subprocess.run(
        [
            sys.executable, "-c",
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from slateflow.learners import learner_config, logged_steps, train\n"
            "from slateflow.trajectories import Dataset\n"
            "logged_steps.SAMPLE_ROWS = 3_600\n"
            "def progress(done, total):\n"
            "    if done == 3:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "config = learner_config('fitted-q', window=5, degree=3)\n"
            "train(Dataset.open(sys.argv[1]), config, 0, progress, Path(sys.argv[2]))\n",
            dataset.path, str(tmp_path / "kept"),
        ],
        cwd=ROOT, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    reads = []
    read = Dataset.part
    monkeypatch.setattr(
        Dataset, "part", lambda *given, **how: reads.append(1) or read(*given, **how)
    )
    again, report = train(dataset, config, checkpoints=tmp_path / "kept")
    np.testing.assert_array_equal(again.head, whole.head)
    assert len(report.curves["residual"]) == 5
    passes = 3 + 2  # the memory, the moments, the sample, and the last two stages
    assert len(reads) == passes * len(dataset.parts)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_more_rows_take_no_more_memory(tmp_path):
    """With a sample of 60,000 rows, three times the logs need no more memory, and are as good."""
    taken = {}
    for episodes in (2_000, 6_000):
        code = f"""
import resource
from slateflow.learners import learner_config, logged_steps, train
from slateflow.trajectories import Dataset, Folder, Recipe, generate
logged_steps.SAMPLE_ROWS = 60_000
shares = {{"random": 0.5, "greedy": 0.5}}
recipe = Recipe("m{episodes}", "modified-lts-20-2", {episodes}, 1, shares)
dataset = generate(recipe, Folder({str(tmp_path)!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scorer, _ = train(dataset, learner_config("fitted-q", degree=3), 0)
scorer.save({str(tmp_path / "scorer.npz")!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
        )
        taken[episodes] = int(done.stdout) / 1024
    assert taken[6_000] < taken[2_000] + 30  # MiB; 480,000 rows of columns alone are 55
    spec = preset("modified-lts-20-2")
    policy = ScoringPolicy(load_scorer(tmp_path / "scorer.npz"))
    returns = episode_returns(spec, policy, 500, 3)
    optimum = optimal_returns(spec, 500, 3)
    random = episode_returns(spec, RandomPolicy(spec.slate_size), 500, 3).mean()
    assert (returns.mean() - random) / (optimum.mean() - random) > 0.99
