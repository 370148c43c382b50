"""Several seeds in one batch: the lanes of each are as in a batch of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from slateflow.environments import batched_environment, preset, presets
from slateflow.environments.streams import Streams
from slateflow.errors import InputError
from slateflow.policies import RandomPolicy, behaviour_policy
from slateflow.policies.play import Step, play


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
    drawn = getattr(Streams(generators(1, 2, 3), 6), name)(size, **arguments)
    shape = np.array(np.empty(size).shape)
    shape[axis] //= 3
    keywords = {key: value for key, value in arguments.items() if key == "dtype"}
    alone = [getattr(one, name)(tuple(shape), **keywords) for one in generators(1, 2, 3)]
    np.testing.assert_array_equal(drawn, np.concatenate(alone, axis=axis))
    assert drawn.dtype == alone[0].dtype


def test_integers_are_shared_out_too():
    drawn = Streams(generators(1, 2), 4).integers(0, 9, (4, 3))
    alone = [one.integers(0, 9, (2, 3)) for one in generators(1, 2)]
    np.testing.assert_array_equal(drawn, np.concatenate(alone))


@pytest.mark.parametrize("common", [True, False])
@pytest.mark.parametrize(
    ("name", "shape", "arguments", "axis"),
    [
        ("random", (6, 5), {"dtype": np.float32}, 0),
        ("random", (2, 6), {"lanes_last": True}, 1),
        ("standard_normal", (6,), {}, 0),
        ("standard_normal", (2, 6), {"lanes_last": True}, 1),
        ("integers", (6, 4), {"low": 2, "high": 9, "dtype": np.int16}, 0),
        ("gumbel", (6, 5), {}, 0),
    ],
)
def test_lanes_that_leave_take_nothing_from_the_others(name, shape, arguments, axis, common):
    def shape_of(lanes: int) -> tuple[int, ...]:
        return tuple(lanes if place == axis else size for place, size in enumerate(shape))

    streams = Streams(generators(1, 2, 3), 6, common)
    getattr(streams, name)(size=shape, **arguments)
    streams.keep(np.array([0, 1, 3]))  # one of the second generator's, none of the third's
    left = getattr(streams, name)(size=shape_of(3), **arguments)
    assert left.shape == shape_of(3)

    keywords = {key: value for key, value in arguments.items() if key != "lanes_last"}
    first, second = (getattr(one, name) for one in generators(1, 2))
    for draw in (first, second):
        draw(size=shape_of(2), **keywords)
    expected = [
        first(size=shape_of(2), **keywords),
        second(size=shape_of(2), **keywords).take([1], axis)
        if common
        else second(size=shape_of(1), **keywords),
    ]
    np.testing.assert_array_equal(left, np.concatenate(expected, axis))
    assert left.dtype == expected[0].dtype


SHORT = {"interest-evolution": {"time_budget": 30}, "interest-exploration": {"step_limit": 9}}


def pairs_of(one: Step, rows: np.ndarray, other: Step, others: np.ndarray) -> Iterator[tuple]:
    """Rows of common users from two runs."""
    assert one.lanes[rows].size == other.lanes[others].size
    for name in ("slates", "propensities", "rewards", "terminated", "truncated", "candidates"):
        yield getattr(one, name)[rows], getattr(other, name)[others]
    for mine, its in ((one.observation, other.observation), (one.responses, other.responses)):
        assert set(mine) == set(its)
        for key in mine:
            yield mine[key][rows], its[key][others]


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("common", [True, False])
def test_every_seed_plays_in_a_batch_as_it_plays_alone(name, common):
    spec = preset(name, **SHORT.get(name, {"time_budget": 9}))
    policy = RandomPolicy(spec.slate_size)

    def steps(lanes: int, seed: int | list[int]) -> list[Step]:
        return list(play(batched_environment(spec, lanes, common_numbers=common), policy, seed))

    together = steps(12, [5, 6, 7])
    lengths = set()
    for number, seed in enumerate((5, 6, 7)):
        alone = steps(4, seed)
        lengths.add(len(alone))
        for moment, other in enumerate(together):
            rows = (other.lanes >= 4 * number) & (other.lanes < 4 * number + 4)
            if moment >= len(alone):
                assert not rows.any()
                continue
            one = alone[moment]
            np.testing.assert_array_equal(one.lanes, other.lanes[rows] - 4 * number)
            for mine, its in pairs_of(one, np.arange(len(one.lanes)), other, np.flatnonzero(rows)):
                np.testing.assert_array_equal(mine, its)
    assert max(lengths) == len(together)
    assert (len(lengths) > 1) == (name == "interest-evolution")


@pytest.mark.parametrize("resample", [True, False])
def test_users_who_leave_change_nothing_for_the_others(resample):
    """Two policies end different sessions at different steps; common ones remain equal."""
    spec = preset("interest-evolution", time_budget=12, resample_documents=resample)
    random, greedy = (
        list(play(batched_environment(spec, 40), behaviour_policy(one, spec), 3))
        for one in ("random", "greedy")
    )
    compared = 0
    for one, other in zip(random, greedy, strict=False):
        _, mine, its = np.intersect1d(one.lanes, other.lanes, return_indices=True)
        np.testing.assert_array_equal(one.candidates[mine], other.candidates[its])
        np.testing.assert_array_equal(
            one.observation["candidates"][mine], other.observation["candidates"][its]
        )
        compared += len(mine) * (one.lanes[mine] != mine).any()
    assert compared > 40  # also where rows have moved up


@pytest.mark.parametrize("resample", [True, False])
def test_leaving_is_what_autoreset_plays_until_the_end_of_each_session(resample):
    spec = preset("interest-evolution", time_budget=12, resample_documents=resample)
    reference, env = (batched_environment(spec, 30) for _ in range(2))
    expected, _ = reference.reset(seed=8)
    observation, _ = env.reset(seed=8)
    policy, ends = behaviour_policy("greedy", spec), 0
    while len(env.lanes):
        lanes = env.lanes
        for key, values in observation.items():
            np.testing.assert_array_equal(values, expected[key][lanes])
        slates = policy.act(observation, np.random.default_rng(0))[0]
        of_all = np.tile(np.arange(spec.slate_size), (30, 1))
        of_all[lanes] = slates
        expected, *others, infos = reference.step(of_all)
        observation, *results, responses = env.step_without_reset(slates)
        for mine, its in zip(results, others, strict=True):
            np.testing.assert_array_equal(mine, its[lanes])
        for key, values in responses.items():
            np.testing.assert_array_equal(values, infos[key][lanes])
        over = results[1] | results[2]
        np.testing.assert_array_equal(env.lanes, lanes[~over])
        ends += int(over.sum())
    assert ends == 30
    with pytest.raises(ResetNeeded, match="expected users in all lanes, got some that left"):
        env.step(of_all)
    observation, _ = env.reset()
    assert env.lanes.tolist() == list(range(30))
    assert env.observation_space.contains(observation)
    assert len(env.step(of_all)[1]) == 30


@pytest.mark.parametrize("seeds", [[], [1, 2, 3]])
def test_seeds_have_to_share_the_lanes_out_evenly(seeds):
    env = batched_environment(preset("lts-10-1"), 4)
    with pytest.raises(InputError, match=f"divides 4 lanes, got {len(seeds)}"):
        env.reset(seed=seeds)
