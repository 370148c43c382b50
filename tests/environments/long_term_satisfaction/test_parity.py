"""The batched simulator against RecSim itself, step by step, on RecSim's own draws."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.environments.long_term_satisfaction import dynamics
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from tests.environments.recording import EQUAL, Player, Recorded, variants

PARAMETERS = {
    "modified": {"preset": "modified-lts-20-2", "time_budget": 50},
    "recsims": {"preset": "lts-10-1"},
    "others": {
        "preset": "lts-20-2",
        "satisfaction_observed": True,
        "memory_discount": 0.4,
        "sensitivity": 0.3,
        "innovation_stddev": 0.2,
        "choc_mean": 4.1,
        "choc_stddev": 0.7,
        "kale_mean": 3.2,
        "kale_stddev": 0.3,
        "time_budget": 23,
        "num_candidates": 7,
    },
}
WORLDS = variants(PARAMETERS)


def world_of(parameters: dict):
    return preset(parameters["preset"], **{k: v for k, v in parameters.items() if k != "preset"})


def scores(world: Recorded) -> list[float]:
    """Clickbait scores of the candidates on offer, as drawn."""
    return world.documents.uniforms[-world.spec.num_candidates :]


@pytest.mark.parametrize("parameters", WORLDS)
def test_kernels_replay_recsim(parameters):
    assert replay(parameters) >= 200


def replay(parameters: dict) -> int:
    """Compare the kernels with RecSim on its draws; returns the number of compared steps."""
    spec = world_of(parameters)
    world, rng = Recorded(spec, seed=1), np.random.default_rng(2)
    steps = 0
    while steps < 200:
        world.env.reset()
        exposure = dynamics.initial_exposure(spec, np.array(world.users.uniforms[-1:]))
        satisfaction = dynamics.satisfaction(spec, exposure)
        np.testing.assert_allclose(exposure, world.state.net_positive_exposure, **EQUAL)
        np.testing.assert_allclose(satisfaction, world.state.satisfaction, **EQUAL)
        terminated, step = False, 0
        while not terminated:
            slate = rng.permutation(spec.num_candidates)[: spec.slate_size]
            clickbait = np.array(scores(world))[slate[:1]]
            _, reward, terminated, truncated, info = world.env.step(slate)
            engagement_normal, innovation_normal = np.array(world.responses.normals[-2:])[:, None]
            watched = dynamics.watch_time(spec, satisfaction, clickbait, engagement_normal)
            exposure = dynamics.next_exposure(spec, exposure, clickbait, innovation_normal)
            satisfaction = dynamics.satisfaction(spec, exposure)
            np.testing.assert_allclose(watched, reward, **EQUAL)
            np.testing.assert_allclose(exposure, world.state.net_positive_exposure, **EQUAL)
            np.testing.assert_allclose(satisfaction, world.state.satisfaction, **EQUAL)
            step += 1
            assert not truncated
            assert terminated == (step == spec.time_budget)
            assert info["watch_time"] == np.float32(min(reward, 100.0))
        steps += step
    assert len(world.responses.normals) == 2 * steps
    return steps


@pytest.mark.parametrize("parameters", WORLDS)
def test_batched_simulator_replays_recsim(parameters):
    assert replay_batched(parameters) == 4 * 3 * world_of(parameters).time_budget


def replay_batched(parameters: dict) -> int:
    """Compare the batched simulator with four of RecSim; returns the steps of all lanes."""
    spec, steps = world_of(parameters), 0
    worlds = [Recorded(spec, seed) for seed in range(4)]
    batched = BatchedLongTermSatisfaction(spec, num_envs=len(worlds))
    batched._users = Player(lambda: [world.users.uniforms[-1] for world in worlds])
    batched._documents = Player(lambda: [scores(world) for world in worlds])
    batched._responses = Player(
        normals=lambda: np.transpose([world.responses.normals[-2:] for world in worlds])
    )
    rng = np.random.default_rng(3)
    for episode in range(3):
        expected = [world.env.reset()[0] for world in worlds]
        # From the second episode on through Gymnasium's autoreset, which ignores the actions.
        observation = (
            batched.reset()[0]
            if episode == 0
            else batched.step(np.tile(np.arange(spec.slate_size), (4, 1)))[0]
        )
        for step in range(spec.time_budget):
            for key in ("user", "candidates", "step"):
                stacked = np.stack([one[key] for one in expected])
                np.testing.assert_allclose(observation[key], stacked, rtol=1e-6)
            slates = rng.permuted(np.tile(np.arange(spec.num_candidates), (4, 1)), axis=1)
            slates = slates[:, : spec.slate_size]
            played = [world.env.step(slate) for world, slate in zip(worlds, slates, strict=True)]
            expected = [one[0] for one in played]
            observation, rewards, terminated, truncated, infos = batched.step(slates)
            np.testing.assert_allclose(rewards, [one[1] for one in played], **EQUAL)
            np.testing.assert_allclose(
                batched._exposure, [world.state.net_positive_exposure for world in worlds], **EQUAL
            )
            assert terminated.tolist() == [one[2] for one in played]
            assert terminated.all() == (step + 1 == spec.time_budget)
            assert not truncated.any()
            assert infos["clicked"].tolist() == [one[4]["clicked"] for one in played]
            np.testing.assert_allclose(
                infos["watch_time"], [one[4]["watch_time"] for one in played], rtol=1e-6
            )
            steps += len(worlds)
    return steps
