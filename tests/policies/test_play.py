"""Playing a policy: contents of a step, and the random stream behind it."""

from __future__ import annotations

import numpy as np

from slateflow.environments import preset
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.policies import GreedyPolicy, RandomPolicy
from slateflow.policies.play import play, seed_of


def test_steps_hold_what_was_seen_before_and_what_came_of_it():
    spec = preset("modified-lts-10-1", time_budget=5)
    steps = list(play(BatchedLongTermSatisfaction(spec, 3), GreedyPolicy(1), seed=4))
    assert [step.observation["step"][0, 0] for step in steps] == [0, 1, 2, 3, 4]
    assert [bool(step.terminated.all()) for step in steps] == [False] * 4 + [True]
    for step in steps:
        assert step.lanes.tolist() == [0, 1, 2]
        assert not step.truncated.any()
        shown = [
            row[place, 0]
            for row, (place,) in zip(step.observation["candidates"], step.slates, strict=True)
        ]
        assert shown == step.observation["candidates"].max(axis=(1, 2)).tolist()
        # Between the smallest and the largest values of this world's log-normal.
        assert ((np.log(step.rewards) > 1) & (np.log(step.rewards) < 4)).all()


def test_policies_draw_from_a_stream_of_their_own():
    spec = preset("modified-lts-20-2")

    def first(policy, seed):
        return next(play(BatchedLongTermSatisfaction(spec, 200), policy, seed))

    random, again, other = (first(RandomPolicy(2), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(random.slates, again.slates)
    assert (random.slates != other.slates).any()
    # The noise is that of the greedy run, too: with the same satisfaction, log watch time is
    # location + scale × normal, both known here.
    greedy = first(GreedyPolicy(2), 1)
    normals = []
    for step in (random, greedy):
        clickbait = np.take_along_axis(step.observation["candidates"][:, :, 0], step.slates, 1)
        clickbait = clickbait[:, 0].astype(float)
        mean = (4 + clickbait) * step.observation["user"][:, 0]
        normals.append((np.log(step.rewards) - mean) / 0.1)
    np.testing.assert_allclose(*normals, atol=1e-4)
    assert 0.8 < np.std(normals[0]) < 1.2


def test_a_sequence_becomes_a_number_of_its_own():
    numbers = {seed_of(child) for child in np.random.SeedSequence(1).spawn(100)}
    assert len(numbers) == 100
    assert all(0 <= number < 2**128 for number in numbers)
    words = np.random.SeedSequence(1).generate_state(4).tolist()
    assert seed_of(np.random.SeedSequence(1)) == sum(w << 32 * n for n, w in enumerate(words))
