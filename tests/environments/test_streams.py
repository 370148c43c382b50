"""Several seeds in one batch: each gives its lanes what it gives them alone."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import PRESETS, batched_environment, preset
from slateflow.environments.streams import Streams
from slateflow.errors import InputError
from slateflow.policies import RandomPolicy, behaviour_policy
from slateflow.policies.play import play


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]


@pytest.mark.parametrize(
    ("name", "size", "arguments", "axis"),
    [
        ("random", (6, 5), {}, 0),
        ("random", (6, 5), {"dtype": np.float32}, 0),
        ("random", (2, 6), {"lanes_last": True}, 1),
        ("random", 6, {}, 0),
        ("standard_normal", (6, 5), {}, 0),
        ("standard_normal", (2, 6), {"lanes_last": True}, 1),
    ],
)
def test_shares_are_what_the_generators_give_alone(name, size, arguments, axis):
    drawn = getattr(Streams(generators(1, 2, 3)), name)(size, **arguments)
    shape = np.array(np.empty(size).shape)
    shape[axis] //= 3
    keywords = {key: value for key, value in arguments.items() if key == "dtype"}
    alone = [getattr(one, name)(tuple(shape), **keywords) for one in generators(1, 2, 3)]
    np.testing.assert_array_equal(drawn, np.concatenate(alone, axis=axis))
    assert drawn.dtype == alone[0].dtype


def test_integers_are_shared_out_too():
    drawn = Streams(generators(1, 2)).integers(0, 9, (4, 3))
    alone = [one.integers(0, 9, (2, 3)) for one in generators(1, 2)]
    np.testing.assert_array_equal(drawn, np.concatenate(alone))


SHORT = {"interest-evolution": {"time_budget": 12}, "interest-exploration": {"step_limit": 9}}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("autoreset", [True, False])
def test_every_seed_plays_in_a_batch_as_it_plays_alone(name, autoreset):
    spec = preset(name, **SHORT.get(name, {"time_budget": 9}))
    policy = RandomPolicy(spec.slate_size)
    together = list(play(batched_environment(spec, 12, autoreset), policy, [5, 6, 7]))
    for number, seed in enumerate((5, 6, 7)):
        lanes = slice(4 * number, 4 * number + 4)
        alone = list(play(batched_environment(spec, 4), policy, seed))
        assert len(alone) <= len(together)
        for one, other in zip(alone, together, strict=False):
            alive = one.alive
            np.testing.assert_array_equal(alive, other.alive[lanes])
            pairs = [
                (one.slates, other.slates),
                (one.propensities, other.propensities),
                (one.rewards, other.rewards),
                (one.terminated, other.terminated),
                (one.truncated, other.truncated),
                *((one.observation[key], other.observation[key]) for key in one.observation),
                *((one.responses[key], other.responses[key]) for key in one.responses),
            ]
            for mine, its in pairs:
                np.testing.assert_array_equal(mine[alive], its[lanes][alive])
        assert not any(step.alive[lanes].any() for step in together[len(alone) :])


def test_lanes_without_autoreset_idle_until_they_are_reset():
    spec = preset("interest-evolution", time_budget=12)
    env = batched_environment(spec, 8, autoreset=False)
    assert env.metadata["autoreset_mode"].value == "Disabled"
    env.reset(seed=1)
    policy, rng, over = (
        behaviour_policy("random", spec),
        np.random.default_rng(0),
        np.zeros(8, bool),
    )
    observation, _ = env.reset(seed=1)
    for _ in range(40):
        observation, rewards, terminated, truncated, infos = env.step(
            policy.act(observation, rng)[0]
        )
        assert not (terminated | truncated)[over].any()
        assert not rewards[over].any()
        assert (observation["step"][over] == 0).all()
        assert (infos["clicked"][over] == -1).all() if infos else over.all()
        over |= terminated | truncated
    assert over.all()
    observation, _ = env.reset()
    *_, infos = env.step(policy.act(observation, rng)[0])
    assert set(infos) == {"clicked", *spec.response_columns}


@pytest.mark.parametrize("seeds", [[], [1, 2, 3]])
def test_seeds_have_to_share_the_lanes_out_evenly(seeds):
    env = batched_environment(preset("lts-10-1"), 4)
    with pytest.raises(InputError, match=f"divides 4 lanes, got {len(seeds)}"):
        env.reset(seed=seeds)
