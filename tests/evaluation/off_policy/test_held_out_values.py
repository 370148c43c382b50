"""Values by which trainings are chosen: against worlds, by hand, and refused as guesses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.environments.interest_evolution.dynamics import cluster_means
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns
from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.estimates import (
    _impossible,
    held_out_values,
    unsupported_shares,
)
from slateflow.evaluation.off_policy.logging_policies import logged_behaviours, simulated_recipe
from slateflow.evaluation.off_policy.slate_sessions import SlateSessions
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.trajectories.held_out import training_logs
from tests.evaluation.held_out import held_out_value
from tests.evaluation.off_policy.chain import chain
from tests.learners.linear import linear_scorer
from tests.leaving import CLICK, LEAVE, leaving_sessions

SPEC = preset("modified-lts-20-2")
SWEETEST, KALEIEST = (linear_scorer(np.array([0.0, 0.0, sign]), SPEC) for sign in (1.0, -1.0))


def logs(folder, policies, episodes: int = 1000):
    return generate(Recipe("logs", SPEC.name, episodes, 7, policies), Folder(str(folder)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return logs(tmp_path_factory.mktemp("mixed"), {"random": 0.5, "greedy": 0.5})


def test_it_is_what_the_simulator_returns(mixed):
    expected = episode_returns(SPEC, ScoringPolicy(SWEETEST), 4000, seed=1)
    # 200 held-out users: a standard error of 0.8
    assert held_out_value(mixed, SWEETEST) == pytest.approx(expected.mean(), abs=4)


def test_few_short_sessions_with_a_memory_tell_it(tmp_path):
    """Twelve held-out users: with values by the clock the estimates were far off."""
    changes = {"num_candidates": 4, "time_budget": 20}
    world = "modified-lts-20-2-hidden"
    recipe = Recipe("short", world, 60, 3, {"random": 0.5, "greedy": 0.5}, changes)
    dataset = generate(recipe, Folder(str(tmp_path / "logs")))
    training = training_logs(dataset, Folder(str(tmp_path / "training")))
    scorer, _ = train(training, learner_config("fitted-q"), seed=5)
    assert len(scorer.decays)
    expected = episode_returns(dataset.spec, ScoringPolicy(scorer), 4000, seed=1)
    assert held_out_value(dataset, scorer) == pytest.approx(expected.mean(), abs=8)


def test_training_logs_choose_between_trainings_too(mixed, tmp_path):
    """Of the 800 training sessions 160 are held out: other users, but the same policies."""
    training = training_logs(mixed, Folder(str(tmp_path)))
    assert simulated_recipe(training) == simulated_recipe(mixed)
    expected = episode_returns(SPEC, ScoringPolicy(SWEETEST), 4000, seed=1)
    assert held_out_value(training, SWEETEST) == pytest.approx(expected.mean(), abs=4)


def test_a_policy_far_from_the_logs_is_still_ranked(mixed):
    # Hardly any logged user is as satisfied as under the kaleiest, whose true value is 1084
    assert held_out_value(mixed, KALEIEST) < held_out_value(mixed, SWEETEST) - 50


def test_what_the_logs_have_hardly_seen_has_no_value(tmp_path):
    dataset = logs(tmp_path, {"greedy": 1.0}, episodes=400)
    scorers = {"sweetest": SWEETEST, "kaleiest": KALEIEST}
    found = held_out_values(dataset, scorers)
    assert found["sweetest"].value is not None
    assert found["kaleiest"].value is None
    assert "are hardly seen in the logs, but at most 10% may be" in found["kaleiest"].reason
    shares = unsupported_shares(dataset, scorers)
    assert shares["sweetest"] < 0.01
    assert shares["kaleiest"] > 0.5


def test_too_few_sessions_are_refused(tmp_path):
    dataset = logs(tmp_path, {"random": 1.0}, episodes=9)
    with pytest.raises(InputError, match="at least 2 held-out sessions as evidence, got 1 of 9"):
        held_out_values(dataset, {"it": SWEETEST})


@pytest.mark.parametrize(
    ("value", "possible"), [(1.5, True), (2.95, True), (3.1, False), (-0.1, False), (-6e14, False)]
)
def test_a_value_that_no_session_can_return_is_a_guess(value, possible):
    """Sessions of three steps with rewards from 0 to nearly 1."""
    assert (_impossible(value, chain(500)) is None) == possible


@pytest.mark.parametrize(
    ("value", "chance", "possible"),
    [
        (3.1, (-0.2, 0.2), True),
        (3.1, (-0.05, 0.2), False),
        (-0.1, (-0.2, 0.2), True),
        (-0.1, (-0.2, 0.05), False),
        (3.1, (-9.0, 9.0), False),
    ],
)
def test_chance_brings_estimates_beyond_what_is_possible(value, chance, possible):
    """An interval wider than the range from 0 to 3 is not an excuse."""
    assert (_impossible(value, chain(500), chance) is None) == possible


def test_rounding_is_no_impossibility():
    rows = dataclasses.replace(chain(2), reward=np.full(6, 7.0, np.float32))
    assert _impossible(21.0000001, rows) is None


def test_few_steps_for_many_features_of_slates_are_a_guess(tmp_path):
    recipe = Recipe("few", "interest-evolution", 15, 7, {"random": 1.0})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer = linear_scorer(np.zeros(41), dataset.spec)
    found = held_out_values(dataset, {"it": scorer})["it"]
    assert found.value is None
    assert "logged steps, but at least 4,420 are needed" in found.reason  # 20 × 221


@pytest.mark.parametrize("shown", [0, 1])
def test_slates_by_hand(shown):
    """V = p (1 + (1 − l) V) + (1 − p) (1 − l₀) V if the same document is always shown."""
    spec = preset("interest-exploration", num_candidates=2, slate_size=1)
    weights = np.zeros(4)
    weights[2 + shown] = 1.0  # after the constant and the quality
    target = ScoringPolicy(linear_scorer(weights, spec))
    found = SlateSessions(leaving_sessions(), spec).estimate(target)
    click = CLICK[shown]
    stays = click * (1 - LEAVE[shown]) + (1 - click) * (1 - LEAVE[2])
    expected = click / (1 - stays)  # 1.9 for the document clicked more often, 5 for the other
    assert (found.start + found.learnt.errors).mean() == pytest.approx(expected, rel=0.05)


def test_the_error_of_a_value_of_slates_is_that_of_the_clicks():
    """Users stay for five steps, so only the document's clicks are uncertain."""
    spec = preset("interest-exploration", num_candidates=2, slate_size=1)
    target = ScoringPolicy(linear_scorer(np.array([0.0, 0.0, 1.0, 0.0]), spec))
    values, errors = [], []
    for seed in range(150):
        rows = leaving_sessions(200, seed, leave=np.zeros(3), most=5)
        found = SlateSessions(rows, spec).estimate(target)
        value = Contributions(found.start + found.learnt.errors)
        values.append(value.value)
        errors.append(value.sem)
    click = CLICK[0]
    expected = 5 * np.sqrt(click * (1 - click) / (200 * 5 / 2))  # half of the steps show it
    assert np.mean(values) == pytest.approx(5 * click, abs=0.03)
    assert np.mean(errors) == pytest.approx(expected, rel=0.05)
    assert np.std(values) == pytest.approx(expected, rel=0.2)  # of 150: three standard errors


@pytest.mark.slow
def test_slates_as_the_simulator_returns_them(tmp_path):
    recipe = Recipe("evolution", "interest-evolution", 500, 7, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    quality = np.concatenate([np.zeros(21), cluster_means(dataset.spec)])
    best, worst = (linear_scorer(sign * quality, dataset.spec) for sign in (1, -1))
    # The logs earn 160 per session. Over seeds of logs the values deviate by 27 and 3
    for scorer, tolerance in ((best, 20), (worst, 8)):
        expected = episode_returns(dataset.spec, ScoringPolicy(scorer), 300, seed=1).mean()
        assert held_out_value(dataset, scorer) == pytest.approx(expected, abs=tolerance)


def test_a_policy_of_no_episode_has_not_logged(tmp_path):
    shares = {"random": 0.998, "greedy": 0.001, "opposite": 0.001}
    dataset = generate(Recipe("m", "lts-10-1", 300, 0, shares), Folder(str(tmp_path)))
    assert logged_behaviours(dataset) == {"random": "random", "greedy": "greedy"}
