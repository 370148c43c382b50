"""Conservative Q-learning: the loss by a plain loop, a solved chain, the default logs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from slateflow.evaluation import episode_returns
from slateflow.learners import learner_config, train
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.policies import ScoringPolicy
from tests.learners.chain import Chain
from tests.learners.hand_made import hand_made

with quiet_rllib():
    from slateflow.learners.rllib.training import algorithm_config

ROWS = 7


@pytest.fixture(params=[0.0, 0.3], ids=["double DQN", "conservative"])
def algorithm(request, small_logs, quiet):
    """A learner with a target network that differs from the main one."""
    config = learner_config("cql", conservatism=request.param, target_rate=0.25, width=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = algorithm_config(small_logs, config, seed=0).build_algo()
        module = learner_of(built).module["default_policy"].unwrapped()
        with torch.no_grad():
            for weight in module.target_scorer.parameters():
                weight += torch.randn_like(weight)
    yield built
    built.stop()


def learner_of(algorithm):
    return algorithm.learner_group._learner


def q_by_hand(network, module, observation: list[float]) -> list[float]:
    """Values of the 4 candidates of one observation (user, steps left, candidates)."""
    values = []
    for candidate in observation[2:]:
        x = [observation[0], observation[1], candidate]
        offset, scale = module.offset.tolist(), module.scale.tolist()
        x = [(v - o) / s for v, o, s in zip(x, offset, scale, strict=True)]
        linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
        for depth, layer in enumerate(linear):
            weight, bias = layer.weight.tolist(), layer.bias.tolist()
            x = [
                sum(v * w for v, w in zip(x, row, strict=True)) + b
                for row, b in zip(weight, bias, strict=True)
            ]
            if depth < len(linear) - 1:
                x = [max(v, 0.0) for v in x]
        values.append(x[0])
    return values


def test_the_loss_is_that_of_a_plain_loop(algorithm):
    learner, batch = learner_of(algorithm), hand_made(ROWS)
    module = learner.module["default_policy"].unwrapped()
    conservatism = algorithm.config.learner_config_dict["conservatism"]
    squares = penalties = 0.0
    disagreements = narrowed = 0
    for row in range(ROWS):
        values = q_by_hand(module.scorer, module, batch["obs"][row].tolist())
        following = q_by_hand(module.scorer, module, batch["new_obs"][row].tolist())
        slow = q_by_hand(module.target_scorer, module, batch["new_obs"][row].tolist())
        # Double DQN: the network chooses among supported candidates, the slow network rates.
        shown = [place for place in range(4) if not batch["next_left_out"][row][place]]
        narrowed += max(following) > max(following[place] for place in shown)
        choice = max(shown, key=following.__getitem__)
        disagreements += choice != max(shown, key=slow.__getitem__)
        target = float(batch["rewards"][row])
        if not batch["terminateds"][row]:
            target += slow[choice]
        taken = values[int(batch["actions"][row])]
        weight = float(batch["row_weights"][row])
        squares += weight * (taken - target) ** 2
        penalties += weight * (math.log(sum(math.exp(v) for v in values)) - taken)
    assert narrowed > 0
    assert disagreements > 0  # otherwise double DQN and DQN would agree
    loss = learner.compute_loss_for_module(
        module_id="default_policy", config=algorithm.config, batch=batch, fwd_out={}
    )
    expected = squares / ROWS + conservatism * penalties / ROWS
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    reported = learner.metrics.peek(("default_policy", "penalty"))
    assert float(reported) == pytest.approx(penalties / ROWS if conservatism else 0.0, rel=1e-5)


def test_no_gradient_flows_through_the_target(algorithm):
    learner, batch = learner_of(algorithm), hand_made(ROWS)
    module = learner.module["default_policy"].unwrapped()
    learner.compute_loss_for_module(
        module_id="default_policy", config=algorithm.config, batch=batch, fwd_out={}
    ).backward()
    assert all(weight.grad is None for weight in module.target_scorer.parameters())
    # Neither main nor slow network is moved by what follows: other successors, same direction.
    conservatism = algorithm.config.learner_config_dict["conservatism"]
    ours = [weight.grad.clone() for weight in module.scorer.parameters()]
    module.scorer.zero_grad()
    target, weight = torch.tensor(targets_by_hand(module, batch)), batch["row_weights"]
    values = module.score(module.scorer, batch["obs"])
    taken = values[torch.arange(ROWS), batch["actions"]]
    penalty = (weight * (torch.log(torch.exp(values).sum(dim=1)) - taken)).mean()
    ((weight * (taken - target) ** 2).mean() + conservatism * penalty).backward()
    for mine, weight in zip(ours, module.scorer.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad, rtol=1e-4, atol=1e-5)


def targets_by_hand(module, batch) -> list[float]:
    """Double DQN's targets, as constants."""
    targets = []
    for row in range(ROWS):
        following = batch["new_obs"][row].tolist()
        values = q_by_hand(module.scorer, module, following)
        slow = q_by_hand(module.target_scorer, module, following)
        shown = [place for place in range(4) if not batch["next_left_out"][row][place]]
        future = slow[max(shown, key=values.__getitem__)]
        targets.append(float(batch["rewards"][row]) + future * (not batch["terminateds"][row]))
    return targets


def test_the_target_network_follows_at_its_rate(algorithm):
    learner = learner_of(algorithm)
    module = learner.module["default_policy"].unwrapped()
    before = [weight.clone() for weight in module.target_scorer.parameters()]
    start = [weight.detach().clone() for weight in module.scorer.parameters()]
    learner._update({"default_policy": hand_made(ROWS)})
    moved = zip(start, module.scorer.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)
    followed = zip(before, module.scorer.parameters(), module.target_scorer.parameters(),
                   strict=True)  # fmt: skip
    for old, main, new in followed:
        torch.testing.assert_close(new, 0.75 * old + 0.25 * main.detach())


def test_kale_now_pays_off_later(make_logs):
    chain = Chain(make_logs)
    config = learner_config(
        "cql",
        conservatism=0,
        window=2,
        batch_size=64,
        updates=800,
        target_rate=0.05,
        restarts=1,
    )
    scorer, _ = train(chain.dataset, config, seed=0)
    # Exactly: 1 + 0.5 against 0 + 3; then 3 and 0.5 against nothing.
    assert chain.gap(scorer, 0.5, step=0) == pytest.approx(-1.5, abs=0.3)
    assert chain.gap(scorer, 1.0, step=1) == pytest.approx(3.0, abs=0.3)
    assert chain.gap(scorer, 0.0, step=1) == pytest.approx(0.5, abs=0.3)


@pytest.mark.slow
def test_conservatism_holds_to_what_was_logged(make_logs):
    """Rewards are uninformative; the logs show the sweet one four times out of five.

    With shares p of the log and the softmax π of Q, the loss is least where
    2 p (Q − 0) + conservatism × (π − p) = 0 for each of the two.
    """
    rng = np.random.default_rng(0)
    candidates = np.tile([0.0, 1.0], (300, 1, 1))
    action = (rng.random((300, 1)) < 0.8).astype(int)
    dataset = make_logs(np.full((300, 1), 0.5), candidates, action, np.full((300, 1), 1.0))
    share = action.mean()

    def gap(conservatism: float) -> float:
        config = learner_config(
            "cql",
            conservatism=conservatism,
            batch_size=300,
            updates=400,
            target_rate=0.05,
            restarts=1,
        )
        scores = train(dataset, config)[0].scores(
            np.array([[0.5]]), np.array([0]), candidates[:1, 0, :, None]
        )
        return float(scores[0, 1] - scores[0, 0])

    def exact(conservatism: float) -> float:
        def excess(gap: float) -> float:
            softmax = 1 / (1 + math.exp(-gap))
            return gap - conservatism / 2 * (share - softmax) * (1 / share + 1 / (1 - share))

        return float(optimize.brentq(excess, -5, 5))

    assert gap(0.0) == pytest.approx(0.0, abs=0.02)
    assert gap(1.0) == pytest.approx(exact(1.0), abs=0.02)
    assert exact(1.0) > 0.3


@pytest.mark.slow
def test_the_default_recipe_leads_most_of_the_way(default_logs):
    scorer, report = train(default_logs, learner_config("cql"))
    returns = episode_returns(default_logs.spec, ScoringPolicy(scorer), 2000, seed=0)
    assert (returns.mean() - 1157.81) / (1195.80 - 1157.81) >= 0.97
    assert len(report.curves["td_error"]) == 40
