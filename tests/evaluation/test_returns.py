"""Returns on the same users for every policy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

from slateflow.environments import optimal_return, preset
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.environments.rules import Opposite, first_feature
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns, optimal_returns, standard_error
from slateflow.evaluation.returns import BLOCK_EPISODES, play_blocks
from slateflow.policies import GreedyPolicy, RandomPolicy
from slateflow.policies.play import seed_of

SHORT = preset("modified-lts-20-2", time_budget=3)


@dataclass
class Recording:
    """Plays greedily and records its observations."""

    policy: GreedyPolicy
    seen: list = field(default_factory=list)

    def act(self, observation, rng):
        self.seen.append({name: values.copy() for name, values in observation.items()})
        return self.policy.act(observation, rng)


def test_a_return_is_the_sum_of_the_rewards_of_an_episode():
    policy, seed, episodes = GreedyPolicy(2), 5, 40
    # The world by hand: the first block's users, and a loop over its steps.
    env = BatchedLongTermSatisfaction(SHORT, episodes)
    block = np.random.SeedSequence(seed, spawn_key=(0xE7A1, 0))
    world, _ = np.random.SeedSequence(seed_of(block)).spawn(2)
    observation, _ = env.reset(seed=seed_of(world))
    expected = [0.0] * episodes
    for _ in range(3):
        sweetest = np.argsort(-observation["candidates"][:, :, 0], axis=1)[:, :2]
        observation, rewards, *_ = env.step(sweetest.astype(np.int32))
        expected = [total + reward for total, reward in zip(expected, rewards, strict=True)]
    np.testing.assert_allclose(episode_returns(SHORT, policy, episodes, seed), expected, rtol=1e-12)


def test_every_policy_meets_the_same_users_and_candidates():
    sweet, kale = Recording(GreedyPolicy(2)), Recording(GreedyPolicy(2, Opposite(first_feature)))
    for policy in (sweet, kale):
        episode_returns(SHORT, policy, 7, seed=3)
    for one, other in zip(sweet.seen, kale.seen, strict=True):
        np.testing.assert_array_equal(one["candidates"], other["candidates"])
    np.testing.assert_array_equal(sweet.seen[0]["user"], kale.seen[0]["user"])
    assert (sweet.seen[1]["user"] != kale.seen[1]["user"]).all()  # they ate different things


def test_common_users_make_the_comparison_sharper():
    spec = preset("modified-lts-20-2", time_budget=30)
    one, other = (episode_returns(spec, p, 400, 1) for p in (GreedyPolicy(2), RandomPolicy(2)))
    apart = episode_returns(spec, RandomPolicy(2), 400, 2)
    assert np.std(one - other) < 0.8 * np.std(one - apart)


@pytest.mark.parametrize("policy", [GreedyPolicy(2), RandomPolicy(2)])
def test_more_episodes_leave_the_first_blocks_as_they_are(policy):
    long = episode_returns(SHORT, policy, 2 * BLOCK_EPISODES + 1, seed=4)
    short = episode_returns(SHORT, policy, BLOCK_EPISODES, seed=4)
    assert long.shape == (2001,)
    np.testing.assert_array_equal(long[:1000], short)
    assert len(set(long.tolist())) == 2001  # no block repeats another


def test_the_seed_decides():
    first, again, other = (episode_returns(SHORT, RandomPolicy(2), 50, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first, other).any()


def test_evaluation_does_not_replay_the_logs():
    """A dataset with the same seed has other users."""
    env = BatchedLongTermSatisfaction(SHORT, 20)
    logged, _ = env.reset(seed=seed_of(np.random.SeedSequence(7, spawn_key=(0,))))
    policy = Recording(GreedyPolicy(2))
    episode_returns(SHORT, policy, 20, seed=7)
    assert not np.isin(policy.seen[0]["candidates"], logged["candidates"]).all()


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_are_refused(episodes):
    with pytest.raises(InputError, match=f"episodes: expected at least 1, got {episodes}"):
        episode_returns(SHORT, RandomPolicy(2), episodes, seed=0)


def test_blocks_hold_every_episode_once():
    sizes = [len(steps[0].rewards) for steps in play_blocks(SHORT, RandomPolicy(2), 2001, 0)]
    assert sizes == [1000, 1000, 1]


def test_standard_error_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=57)
    assert standard_error(values) == pytest.approx(stats.sem(values), rel=1e-12)
    assert standard_error(values[:1]) == 0.0


@pytest.mark.parametrize(
    "spec",
    [
        preset("modified-lts-20-2"),
        preset("modified-lts-20-2-hidden"),
        preset("lts-10-1"),
        preset("modified-lts-10-1", innovation_stddev=1.0, sensitivity=0.3, time_budget=17),
        preset("modified-lts-10-1", sensitivity=-0.2, memory_discount=0.0),
    ],
    ids=lambda spec: spec.name,
)
def test_the_optimal_policy_earns_what_dynamic_programming_expects(spec):
    played = optimal_returns(spec, 4000, seed=9)
    assert abs(played.mean() - optimal_return(spec)) < 4 * standard_error(played)
    if not spec.satisfaction_observed or "lts-10" in spec.name:
        return
    random = episode_returns(spec, RandomPolicy(2), 4000, seed=9)
    assert np.corrcoef(played, random)[0, 1] > 0.9  # they meet the same users


def test_the_optimal_policy_loses_to_no_rule_on_the_same_users():
    """The interval of each difference reaches above zero."""
    spec = preset("modified-lts-20-2", choc_stddev=1.0)
    played = optimal_returns(spec, 2000, seed=9)
    for rule in (first_feature, Opposite(first_feature)):
        other = episode_returns(spec, GreedyPolicy(2, rule), 2000, seed=9)
        assert stats.ttest_rel(played, other).confidence_interval().high > 0


def test_where_nobody_knows_the_optimum_there_are_no_returns_of_it():
    assert optimal_returns(preset("interest-evolution"), 10, seed=0) is None
    fixed = preset("modified-lts-20-2", resample_documents=False)
    assert optimal_returns(fixed, 10, seed=0) is None
