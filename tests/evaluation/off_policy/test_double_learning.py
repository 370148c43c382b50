"""Learnt values and weights: a chain solved by hand, worlds, and the shop."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.evaluation import episode_returns
from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.corrections import Correction, Estimated
from slateflow.evaluation.off_policy.estimates import estimate_policies, prepared_sessions
from slateflow.evaluation.off_policy.item_sessions import ItemSessions
from slateflow.policies import RandomPolicy, ScoringPolicy, behaviour_policy
from slateflow.trajectories import Folder, Recipe, generate
from tests.evaluation.off_policy.chain import chain
from tests.evaluation.off_policy.first_on_offer import FirstOnOffer
from tests.learners.linear import linear_scorer

CHAIN = preset("modified-lts-10-1", num_candidates=2, time_budget=3)


def test_a_chain_by_hand():
    found = ItemSessions(chain(4000), CHAIN).estimate(
        ScoringPolicy(linear_scorer(np.array([0.0, 0.0, 1.0]), CHAIN))
    )
    # The mean of the larger of two uniform numbers is 2/3: the user is 1, then 1/3, then 1/3
    expected = 2 / 3 + 2 * (1 / 3) * (2 / 3)
    value = Contributions(found.start + found.learnt.errors)
    assert value.value == pytest.approx(expected, abs=4 * value.sem)
    assert value.sem < 0.01
    assert found.learnt.weight.sum() / 4000 == pytest.approx(3, abs=0.1)  # steps of a session


def test_the_weights_alone_say_it_too():
    """Σ ω r is the value if the features contain everything relevant, whatever Q is."""
    found = ItemSessions(chain(20_000), CHAIN).estimate(RandomPolicy(1))
    # A random click is worth 1/2, after which the user is 1/2
    assert found.learnt.weighted.mean() == pytest.approx(0.5 + 2 * 0.25, abs=0.02)


def test_of_the_logging_policy_it_is_what_was_logged():
    rows = chain(4000)
    found = ItemSessions(rows, CHAIN).estimate(RandomPolicy(1))
    earned = rows.reward.reshape(-1, 3).sum(axis=1).astype(np.float64)
    difference = Contributions(found.start + found.learnt.errors - earned)
    assert difference.value == pytest.approx(0, abs=4 * difference.sem)
    assert difference.sem < 0.8 * Contributions(earned).sem  # paired


@pytest.mark.parametrize(
    ("found", "trusted"), [(1.0, True), (0.8, True), (0.12, False), (1.4, True), (1.7, False)]
)
def test_propensities_that_find_too_little_or_too_much_are_not_trusted(found, trusted):
    """With thousands of possible slates the weights of matching rows may add up badly."""
    errors = np.random.default_rng(0).normal(size=1_000)
    learnt = Correction(np.ones(1_000), errors, errors, errors)
    weight = np.repeat([5 * found, 0.0], [200, 800])
    by_propensity = Correction(weight, errors / 2, errors, errors)
    estimated = Estimated(np.zeros(1_000), learnt, by_propensity, errors)
    assert estimated.trusted is (by_propensity if trusted else learnt)


def test_uplifts_have_the_errors_that_they_claim():
    """Logs of 200 sessions; a policy as good as random, and one whose uplift is 1/9."""
    clicks = ScoringPolicy(linear_scorer(np.array([0.0, 0.0, 1.0]), CHAIN))
    z: dict[str, list[float]] = {"equal": [], "better": []}
    for seed in range(400):
        sessions = ItemSessions(chain(200, seed), CHAIN)
        random, equal, better = (
            sessions.estimate(target) for target in (RandomPolicy(1), FirstOnOffer(1), clicks)
        )
        for name, one, truth in (("equal", equal, 0.0), ("better", better, 1 / 9)):
            sums = one.start + one.learnt.errors - random.start - random.learnt.errors
            over = Contributions(sums)
            z[name].append((over.value - truth) / over.sem)
    for found in (np.array(one) for one in z.values()):
        # 400 logs: standard errors of 0.008 and 0.011 for the shares, 0.035 for the deviation
        assert (found > 1.97).mean() <= 0.05
        assert (np.abs(found) < 1.97).mean() >= 0.915
        assert found.std() == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(
    ("world", "sessions", "repeats"),
    [
        pytest.param("modified-lts-20-2", 200, 20, marks=pytest.mark.slow),
        pytest.param("interest-exploration", 100, 8, marks=pytest.mark.slow),
    ],
)
def test_intervals_of_uplifts_hold_the_truth(tmp_path, world, sessions, repeats):
    """New logs each time. With twenty repeats, fewer than 16 cover the truth once in 3,000 runs."""
    held = 0
    spec = preset(world)
    greedy = behaviour_policy("greedy", spec)
    random = RandomPolicy(spec.slate_size)
    difference = episode_returns(spec, greedy, 4000, 1) - episode_returns(spec, random, 4000, 1)
    for seed in range(repeats):
        recipe = Recipe("logs", world, sessions, 50 + seed, {"random": 0.5, "greedy": 0.5})
        rows = generate(recipe, Folder(str(tmp_path / str(seed)))).read()
        prepared = prepared_sessions(rows, spec)
        found = [prepared.estimate(target) for target in (greedy, random)]
        first, second = (Contributions(one.start + one.learnt.errors) for one in found)
        low, high = (first - second).interval()
        held += low <= difference.mean() <= high
    assert held >= repeats - max(repeats // 5, 2)


def test_what_the_logs_never_lead_to_has_no_verdict(tmp_path):
    recipe = Recipe("logs", "modified-lts-20-2", 200, 7, {"greedy": 1.0})
    logs = generate(recipe, Folder(str(tmp_path)))
    targets = {name: behaviour_policy(name, logs.spec) for name in ("greedy", "opposite")}
    found = estimate_policies(logs, targets, held_out_only=False).policies
    assert found["greedy"].refusal is None
    assert "hardly seen" in found["opposite"].refusal.reason


def test_few_sessions_have_no_verdict(tmp_path):
    recipe = Recipe("logs", "modified-lts-20-2", 60, 7, {"random": 1.0})
    logs = generate(recipe, Folder(str(tmp_path)))
    found = estimate_policies(logs, {"random": RandomPolicy(2)}, held_out_only=False)
    assert "60 sessions as evidence, but at least 100" in found.policies["random"].refusal.reason
