"""Implicit Q-learning: the loss by a plain loop, expectiles by SciPy, a solved chain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from slateflow.evaluation import episode_returns
from slateflow.learners import learner_config, train
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.policies import ScoringPolicy
from tests.learners.chain import Chain
from tests.learners.hand_made import hand_made

with quiet_rllib():
    from slateflow.learners.rllib.iql import expectile_loss
    from slateflow.learners.rllib.training import algorithm_config

ROWS, EXPECTILE = 25, 0.8


@pytest.fixture(params=[0.0, 0.3])
def conservatism(request) -> float:
    """Weight of the penalty."""
    return request.param


@pytest.fixture
def learner(small_logs, quiet, conservatism):
    """A learner with three different networks."""
    config = learner_config(
        "iql", expectile=EXPECTILE, conservatism=conservatism, target_rate=0.25, width=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        algorithm = algorithm_config(small_logs, config, seed=0).build_algo()
        built = algorithm.learner_group._learner
        with torch.no_grad():
            for weight in module_of(built).parameters():
                weight += torch.randn_like(weight)
    yield built
    algorithm.stop()


def module_of(learner):
    return learner.module["default_policy"].unwrapped()


def loss_of(learner, batch) -> torch.Tensor:
    return learner.compute_loss_for_module(
        module_id="default_policy", config=learner.config, batch=batch, fwd_out={}
    )


def test_the_loss_is_that_of_a_plain_loop(learner, conservatism):
    module, batch = module_of(learner), hand_made(ROWS)
    with torch.no_grad():
        quick = module.score(module.scorer, batch["obs"]).tolist()
        slow = module.score(module.target_scorer, batch["obs"]).tolist()
        value = module.compute_values(batch).tolist()
        following = module.compute_values({"obs": batch["new_obs"]}).tolist()
    value_loss = td_error = penalty = 0.0
    below = 0
    for row in range(ROWS):
        action, ends = int(batch["actions"][row]), bool(batch["terminateds"][row])
        advantage = slow[row][action] - value[row]  # the slow network rates the logged actions
        below += advantage < 0
        value_loss += (1 - EXPECTILE if advantage < 0 else EXPECTILE) * advantage**2
        target = float(batch["rewards"][row]) + (0.0 if ends else following[row])
        td_error += (quick[row][action] - target) ** 2
        rare = batch["rare"][row].tolist()
        against = [q for n, q in enumerate(quick[row]) if rare[n] or n == action]
        penalty += math.log(sum(math.exp(q) for q in against)) - quick[row][action]
    assert 0 < below < ROWS  # both branches of the loss
    expected = (value_loss + td_error + conservatism * penalty) / ROWS
    assert float(loss_of(learner, batch).detach()) == pytest.approx(expected, rel=1e-5)
    assert float(learner.metrics.peek(("default_policy", "td_error"))) == pytest.approx(
        td_error / ROWS, rel=1e-5
    )


def test_each_network_is_moved_by_its_own_equation_only(learner, conservatism):
    module, batch = module_of(learner), hand_made(ROWS)
    loss_of(learner, batch).backward()
    assert all(weight.grad is None for weight in module.target_scorer.parameters())
    with_value = [weight.grad.clone() for weight in module.scorer.parameters()]
    module.scorer.zero_grad()
    with torch.no_grad():
        future = module.compute_values({"obs": batch["new_obs"]}) * ~batch["terminateds"]
    values = module.score(module.scorer, batch["obs"])
    taken = values[torch.arange(ROWS), batch["actions"]]
    against = values.exp() * batch["rare"]
    against[torch.arange(ROWS), batch["actions"]] = taken.exp()
    penalty = conservatism * (against.sum(dim=1).log() - taken).mean()
    ((taken - batch["rewards"] - future).square().mean() + penalty).backward()
    for mine, weight in zip(with_value, module.scorer.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_the_loss_is_least_at_the_expectile(expectile):
    values = np.random.default_rng(1).normal(size=400)
    exact = stats.expectile(values, expectile)
    guess = torch.tensor(exact, requires_grad=True)
    expectile_loss(torch.from_numpy(values) - guess, expectile).mean().backward()
    assert float(guess.grad) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("expectile", [0.5, pytest.param(0.9, marks=pytest.mark.slow)])
def test_a_chain_solved_by_hand(make_logs, expectile):
    """With two equally frequent rewards 0 and r the value is expectile × r."""
    chain = Chain(make_logs)
    config = learner_config(
        "iql", expectile=expectile, window=2, batch_size=64, updates=800, target_rate=0.05,
        conservatism=0.0,
    )  # fmt: skip
    scorer, _ = train(chain.dataset, config, seed=0)
    # First 1 + expectile × 0.5 against 0 + expectile × 3; then 3 and 0.5 against nothing.
    assert chain.gap(scorer, 0.5, step=0) == pytest.approx(1 - 2.5 * expectile, abs=0.3)
    assert chain.gap(scorer, 1.0, step=1) == pytest.approx(3.0, abs=0.3)
    assert chain.gap(scorer, 0.0, step=1) == pytest.approx(0.5, abs=0.3)


@pytest.mark.slow
def test_the_default_recipe_leads_most_of_the_way(default_logs):
    scorer, report = train(default_logs, learner_config("iql"))
    returns = episode_returns(default_logs.spec, ScoringPolicy(scorer), 2000, seed=0)
    assert (returns.mean() - 1157.81) / (1195.80 - 1157.81) >= 0.9
    assert len(report.curves["td_error"]) == 40
