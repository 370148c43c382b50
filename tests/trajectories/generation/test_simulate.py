"""Simulated parts: rows by episode, then step, whatever other parts are in the batch."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import batched_environment, preset
from slateflow.policies import behaviour_policy
from slateflow.policies.play import play, seed_of
from slateflow.trajectories import Recipe
from slateflow.trajectories.generation.plan import BLOCK_EPISODES, plan
from slateflow.trajectories.generation.simulate import batches, simulate
from slateflow.trajectories.schema import column_digest

WORLDS = {
    "modified-lts-20-2": {"time_budget": 4},
    "interest-evolution": {"time_budget": 12.0},  # sessions of several lengths
}


def recipe(name: str) -> Recipe:
    """Three parts of random episodes, the last one shorter, and one of greedy episodes."""
    return Recipe("r", name, 2_300, 5, {"random": 0.5, "greedy": 0.5}, WORLDS[name])


@pytest.mark.parametrize("name", WORLDS)
def test_parts_are_the_same_alone_and_side_by_side(name):
    some = recipe(name)
    first, second, *_ = plan(some)
    together = [column_digest(rows) for rows in simulate(some.spec, [first, second], 5)]
    alone = [
        column_digest(rows) for part in (first, second) for rows in simulate(some.spec, [part], 5)
    ]
    assert together == alone
    assert len(set(together)) == 2


@pytest.mark.parametrize("name", WORLDS)
def test_rows_are_the_steps_of_one_lane_after_the_other(name):
    some = recipe(name)
    part = plan(some)[1]
    (rows,) = simulate(some.spec, [part], 5)
    env = batched_environment(some.spec, part.episodes, common_numbers=False)
    seed = seed_of(np.random.SeedSequence(5, spawn_key=(part.seed_block,)))
    episodes: list[list[tuple]] = [[] for _ in range(part.episodes)]
    for step in play(env, behaviour_policy("random", some.spec), seed):
        features = step.observation["candidates"]
        for place, lane in enumerate(step.lanes):
            episodes[lane].append(
                (features[place].tolist(), step.slates[place].tolist(), float(step.rewards[place]))
            )
    assert len({len(steps) for steps in episodes}) > 1 or name == "modified-lts-20-2"
    expected = [
        (part.first_episode + lane, number, *values)
        for lane, steps in enumerate(episodes)
        for number, values in enumerate(steps)
    ]
    assert len(rows) == len(expected)
    for row in range(0, len(rows), 97):
        episode, step, features, slate, reward = expected[row]
        assert (rows.episode[row], rows.step[row]) == (episode, step)
        assert rows.candidate_features(slice(row, row + 1))[0].tolist() == features
        assert rows.slate[row].tolist() == slate
        assert rows.reward[row] == np.float32(reward)


def test_batches_are_neighbours_of_one_policy_and_one_size():
    some = recipe("modified-lts-20-2")
    parts = plan(some)
    assert [part.episodes for part in parts] == [500, 500, 150, 500, 500, 150]
    grouped = batches(some.spec, parts, workers=1)
    assert [part for group in grouped for part in group] == parts
    assert [len(group) for group in grouped] == [2, 1, 2, 1]
    assert [len(group) for group in batches(some.spec, parts, workers=6)] == [1] * 6


def test_a_batch_of_large_steps_holds_fewer_parts():
    spec = preset("modified-lts-20-2", num_candidates=5_000)
    parts = plan(Recipe("r", spec.name, 8 * BLOCK_EPISODES, 0, {"random": 1}))
    assert {len(group) for group in batches(spec, parts, workers=1)} == {1}
