"""RecSim's own returns: of known policies, and against the batched simulator."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns
from slateflow.evaluation.recsim_check import Agreement, agreement, recsim_returns
from slateflow.policies import RandomPolicy, behaviour_policy


@pytest.mark.parametrize("policy", ["random", "greedy", "opposite"])
def test_both_simulators_agree_within_four_standard_errors(policy):
    spec = preset("modified-lts-20-2", time_budget=8)
    chosen = behaviour_policy(policy, spec)
    calls: list[int] = []
    recsim = recsim_returns(spec, chosen, 100, 3, lambda done, _: calls.append(done))
    compared = agreement(episode_returns(spec, chosen, 2000, seed=3), recsim)
    assert abs(compared.deviation) < 4
    assert compared.episodes == len(recsim) == 100
    assert calls == list(range(1, 9))
    if policy == "opposite":  # and differences would be detected
        other = episode_returns(spec, behaviour_policy("greedy", spec), 2000, seed=3)
        assert abs(agreement(other, recsim).deviation) > 4


def test_sessions_end_one_by_one():
    spec = preset("interest-evolution")
    chosen = RandomPolicy(spec.slate_size)
    recsim = recsim_returns(spec, chosen, 12, seed=0)
    assert len(set(recsim.tolist())) > 6  # some drink up the same budget
    compared = agreement(episode_returns(spec, chosen, 1000, seed=0), recsim)
    assert abs(compared.deviation) < 4


def test_the_same_seed_gives_the_same_returns():
    spec = preset("modified-lts-10-1", time_budget=3)
    chosen = RandomPolicy(1)
    one, again, other = (recsim_returns(spec, chosen, 5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_deviation_counts_both_errors():
    compared = Agreement(10.0, 3.0, 20.0, 4.0, episodes=5)
    assert compared.deviation == 2.0


def test_too_few_episodes_are_refused():
    with pytest.raises(InputError, match="reference episodes: expected at least 2, got 1"):
        recsim_returns(preset("modified-lts-10-1"), RandomPolicy(1), 1, seed=0)
