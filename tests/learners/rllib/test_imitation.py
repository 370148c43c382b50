"""Behaviour cloning and MARWIL: losses by plain loops, and choices solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.learners import learner_config, train
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.policies import ScoringPolicy
from slateflow.trajectories import Folder, Recipe, generate

with quiet_rllib():
    from slateflow.learners.rllib.training import algorithm_config

ROWS = 9


@pytest.fixture
def build(small_logs, quiet):
    """Build a learner on the small logs, always with the same initial weights."""
    built = []

    def make(name: str, **settings):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = learner_config(name, width=4, **settings)
            built.append(algorithm_config(small_logs, config, seed=0).build_algo())
        return built[-1].learner_group._learner

    yield make
    for algorithm in built:
        algorithm.stop()


def hand_made() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {
        "obs": torch.from_numpy(rng.random((ROWS, 6), dtype=np.float32)),
        "actions": torch.from_numpy(rng.integers(0, 4, ROWS)),
        "value_targets": torch.from_numpy(rng.normal(0, 2, ROWS).astype(np.float32)),
    }


def loss_of(learner, batch) -> float:
    return float(
        learner.compute_loss_for_module(
            module_id="default_policy",
            config=learner.config,
            batch=batch,
            fwd_out=learner.module["default_policy"].forward_train(batch),
        ).detach()
    )


def by_hand(learner, batch) -> tuple[list[float], list[float]]:
    """Log-probability of each logged action, and the value of its state."""
    module = learner.module["default_policy"].unwrapped()
    with torch.no_grad():
        scores = module.score(module.scorer, batch["obs"]).tolist()
        values = module.compute_values(batch).tolist() if hasattr(module, "value") else []
    chosen = batch["actions"].tolist()
    return [
        row[action] - math.log(sum(math.exp(score) for score in row))
        for row, action in zip(scores, chosen, strict=True)
    ], values


@pytest.mark.parametrize(("name", "settings"), [("bc", {}), ("marwil", {"beta": 0.0})])
def test_cloning_is_the_cross_entropy_of_the_logs(build, name, settings):
    learner, batch = build(name, **settings), hand_made()
    log_probability, _ = by_hand(learner, batch)
    assert loss_of(learner, batch) == pytest.approx(-sum(log_probability) / ROWS, rel=1e-5)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_marwil_weighs_by_the_advantage(build, beta):
    learner, batch = build("marwil", beta=beta, value_coefficient=0.7), hand_made()
    log_probability, values = by_hand(learner, batch)
    advantages = [
        target - value
        for target, value in zip(batch["value_targets"].tolist(), values, strict=True)
    ]
    mean_square = sum(a * a for a in advantages) / ROWS
    moving = 1 + 0.01 * (mean_square - 1)  # from 1, a hundredth of the way
    policy = -sum(
        math.exp(beta * advantage / math.sqrt(moving)) * logged
        for advantage, logged in zip(advantages, log_probability, strict=True)
    )
    expected = policy / ROWS + 0.7 * mean_square / 2
    assert loss_of(learner, batch) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_marwil_without_beta_learns_what_cloning_learns(small_logs):
    same = {"updates": 50, "batch_size": 64, "learning_rate": 3e-3}
    cloned, _ = train(small_logs, learner_config("bc", **same), seed=3)
    weighed, _ = train(small_logs, learner_config("marwil", beta=0.0, **same), seed=3)
    for one, other in zip(cloned.weights, weighed.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_cloning_imitates_who_always_shows_the_sweetest(tmp_path):
    recipe = Recipe("greedy", "modified-lts-20-2", 50, 0, {"greedy": 1.0})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, report = train(dataset, learner_config("bc", updates=300))
    observation, _ = BatchedLongTermSatisfaction(dataset.spec, 2000).reset(seed=99)
    slates, _ = ScoringPolicy(scorer).act(observation, np.random.default_rng(0))
    sweetest = observation["candidates"][:, :, 0].argmax(axis=1)
    assert (slates[:, 0] == sweetest).mean() > 0.95
    losses = report.curves["policy_loss"]
    assert losses[-1] < 0.5 * math.log(20)  # to guess among 20 costs log 20


@pytest.mark.slow
def test_a_slight_preference_is_imitated_where_nearly_all_is_random(tmp_path):
    """Greedy logs leave users discontented: of the steps of contented users, 1% are greedy."""
    recipe = Recipe("halves", "modified-lts-20-2", 2000, 1, {"random": 0.5, "greedy": 0.5})
    dataset = generate(recipe, Folder(str(tmp_path)))
    scorer, _ = train(dataset, learner_config("bc"), seed=1)
    rows = dataset.read()
    rows = rows.where(rows.user[:, 0] > 0.5)
    by_sweetness = rows.candidates[:, :, 0].argsort(axis=1)
    shown = by_sweetness == rows.slate[:, :1]
    scores = scorer.scores(rows.user, rows.step, rows.candidates)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    imitated = np.take_along_axis(weights / weights.sum(axis=1, keepdims=True), by_sweetness, 1)
    frequency, imitated = shown.mean(axis=0), imitated.mean(axis=0)
    assert frequency[-1] == pytest.approx(0.05 + 0.95 * 0.0105, abs=0.003)
    np.testing.assert_allclose(imitated, frequency, atol=0.01)  # errors of 0.001 in the logs
    assert imitated[-1] > imitated[:15].max() + 0.003


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_marwil_prefers_what_paid_though_the_logs_do_not(make_logs, beta):
    """Two documents shown equally often, one pays.

    In units of their deviation the advantages are ±1, so their odds are e^β to e^−β.
    """
    rng = np.random.default_rng(0)
    action = rng.permutation(np.repeat([0, 1], 300))[:, None]
    candidates = np.tile([0.0, 1.0], (600, 1, 1))
    dataset = make_logs(np.full((600, 1), 0.5), candidates, action, 5.0 + action)

    def log_odds(name: str, **settings) -> float:
        config = learner_config(name, batch_size=600, updates=400, **settings)
        scores = train(dataset, config)[0].scores(
            np.array([[0.5]]), np.array([0]), candidates[:1, 0, :, None]
        )
        return float(scores[0, 1] - scores[0, 0])

    assert log_odds("marwil", beta=beta) == pytest.approx(2 * beta, abs=0.05)
    assert log_odds("bc") == pytest.approx(0.0, abs=0.05)
