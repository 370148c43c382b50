"""Interest exploration against RecSim itself, step by step, on RecSim's own draws."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.environments.interest_exploration import dynamics as exploration
from slateflow.environments.interest_exploration.simulator import BatchedInterestExploration
from tests.environments.recording import EQUAL, Player, Recorded, variants

PARAMETERS = {
    "recsims": {"step_limit": 40},
    "others": {
        "user_type_distribution": (0.5, 0.3, 0.2),
        "user_document_mean_affinity_matrix": (
            (0.2, 0.9, 0.1, 1.2), (1.1, 0.3, 0.4, 0.2), (0.5, 0.5, 1.4, 0.1),
        ),
        "user_document_stddev_affinity_matrix": (
            (0.2, 0.3, 0.1, 0.4), (0.1, 0.2, 0.3, 0.4), (0.3, 0.2, 0.1, 0.2),
        ),
        "no_click_mass": 3.5,
        "topic_distribution": (0.1, 0.4, 0.2, 0.3),
        "topic_quality_mean": (0.9, 0.1, 0.4, 0.3),
        "topic_quality_stddev": (0.3, 0.2, 0.1, 0.4),
        "num_candidates": 6,
        "step_limit": 37,
    },
}  # fmt: skip
WORLDS = variants(PARAMETERS)


def documents(world: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Topics and qualities of the candidates by the kernel, which have to equal RecSim's."""
    count = world.spec.num_candidates
    topics, quality = exploration.documents(
        world.spec,
        np.array(world.documents.uniforms[-count:]),
        np.array(world.documents.normals[-count:]),
    )
    assert topics.tolist() == [one.cluster_id for one in world.offered]
    np.testing.assert_allclose(quality, [one.quality for one in world.offered], **EQUAL)
    return topics, quality


@pytest.mark.parametrize("parameters", WORLDS)
def test_kernels_replay_recsim(parameters):
    assert replay(parameters) >= 300


def replay(parameters: dict) -> int:
    """Compare the kernels with RecSim on its draws; returns the number of compared steps."""
    spec = preset("interest-exploration", **parameters)
    world, rng = Recorded(spec, seed=1), np.random.default_rng(2)
    steps = clicks = 0
    while steps < 300:
        world.env.reset()
        affinities = exploration.user_affinities(
            spec,
            np.array(world.users.uniforms[-1:]),
            np.array([world.users.normals[-len(spec.topic_distribution) :]]),
        )
        truncated = False
        while not truncated:
            np.testing.assert_allclose(affinities[0], world.state.topic_affinity, **EQUAL)
            topics, quality = documents(world)
            slate = rng.permutation(spec.num_candidates)[: spec.slate_size]
            _, reward, terminated, truncated, info = world.env.step(slate)
            (clicked,) = exploration.clicked_place(
                spec,
                affinities,
                topics[slate][None],
                quality[slate][None],
                np.array(world.responses.uniforms[-1:]),
            )
            assert clicked == info["clicked"]
            assert reward == (clicked >= 0)
            assert not terminated
            clicks += clicked >= 0
            steps += 1
    assert len(world.responses.uniforms) == steps
    assert 0.05 * steps < clicks < 0.95 * steps
    return steps


@pytest.mark.parametrize("parameters", WORLDS)
def test_batched_simulator_replays_recsim(parameters):
    assert replay_batched(parameters) >= 4 * 3 * 37


def replay_batched(parameters: dict) -> int:
    """Compare the batched simulator with four of RecSim; returns the steps of all lanes."""
    steps, spec = 0, preset("interest-exploration", **parameters)
    worlds = [Recorded(spec, seed) for seed in range(4)]
    batched = BatchedInterestExploration(spec, num_envs=len(worlds))
    types, topics, rng = (
        len(spec.topic_distribution),
        spec.num_candidates,
        np.random.default_rng(3),
    )
    batched._users = Player(
        lambda: [world.users.uniforms[-1] for world in worlds],
        lambda: [world.users.normals[-types:] for world in worlds],
    )
    batched._documents = Player(
        lambda: [world.documents.uniforms[-topics:] for world in worlds],
        lambda: [world.documents.normals[-topics:] for world in worlds],
    )
    # Autoreset draws a response that is never returned.
    batched._responses = Player(lambda: [world.responses.uniforms[-1] for world in worlds])
    for episode in range(3):
        expected = [world.env.reset()[0] for world in worlds]
        ignored = np.zeros((4, spec.slate_size), dtype=np.int64)
        observation = (batched.reset() if episode == 0 else batched.step(ignored))[0]
        for step in range(spec.step_limit):
            for key, values in observation.items():
                stacked = np.stack([one[key] for one in expected])
                np.testing.assert_allclose(values, stacked, rtol=1e-6)
                assert values.dtype == stacked.dtype
            slates = rng.permuted(np.tile(np.arange(spec.num_candidates), (4, 1)), axis=1)
            slates = slates[:, : spec.slate_size]
            played = [world.env.step(slate) for world, slate in zip(worlds, slates, strict=True)]
            expected = [one[0] for one in played]
            observation, rewards, terminated, truncated, infos = batched.step(slates)
            np.testing.assert_allclose(
                batched._affinities, [world.state.topic_affinity for world in worlds], **EQUAL
            )
            assert rewards.tolist() == [one[1] for one in played]
            assert terminated.tolist() == [one[2] for one in played] == [False] * 4
            assert truncated.tolist() == [one[3] for one in played]
            assert truncated.all() == (step + 1 == spec.step_limit)
            assert set(infos) == {"clicked", *spec.response_columns} == set(played[0][4])
            for name, values in infos.items():
                expected_values = [one[4][name] for one in played]
                np.testing.assert_allclose(values, expected_values, rtol=1e-6)
            steps += len(worlds)
    return steps
