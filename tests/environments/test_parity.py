"""The batched simulator against RecSim itself, step by step, on RecSim's own draws."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import BatchedLongTermSatisfaction, dynamics, preset
from slateflow.environments.recsim_reference import RecSimLongTermSatisfaction

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
WORLDS = [
    pytest.param(
        {**parameters, "resample_documents": resample, "slate_size": places},
        id=f"{name}-{'moving' if resample else 'fixed'}-{places}",
    )
    for name, parameters in PARAMETERS.items()
    for resample in (True, False)
    for places in (1, 2, 3, 4, 5)
]


def world_of(parameters: dict):
    return preset(parameters["preset"], **{k: v for k, v in parameters.items() if k != "preset"})


EQUAL = {"rtol": 1e-12, "atol": 0}  # NumPy's exp may differ in the last bit between CPUs


class Recorder:
    """A stream of RecSim's that remembers what it gave.

    `uniforms` are rounded to float32, in which the batched simulator draws its documents.
    `normals` are the standard normals behind the values: the legacy generator computes
    loc + scale × standard normal.
    """

    def __init__(self, seed: int) -> None:
        self._values = np.random.RandomState(seed)
        self._twin = np.random.RandomState(seed)
        self.uniforms: list[float] = []
        self.normals: list[float] = []

    def random_sample(self) -> float:
        self.uniforms.append(float(np.float32(self._values.random_sample())))
        return self.uniforms[-1]

    def normal(self, loc: float = 0.0, scale: float = 1.0) -> float:
        self.normals.append(self._twin.standard_normal())
        return self._values.normal(loc, scale)


class Recorded:
    """RecSim's environment, with recorders for streams."""

    def __init__(self, spec, seed: int) -> None:
        self.spec = spec
        self.env = RecSimLongTermSatisfaction(spec)
        world = self.env._world
        self.users, self.documents, self.responses = (Recorder(3 * seed + i) for i in range(3))
        world.user_model._user_sampler._rng = self.users
        world._document_sampler._rng = self.documents
        self.env._responses = self.responses
        world._do_resample_documents()  # where they stay, they are drawn through the recorder too

    @property
    def state(self):
        return self.env._world.user_model._user_state

    @property
    def scores(self) -> np.ndarray:
        """Clickbait scores of the candidates on offer, as they were drawn."""
        return np.array(self.documents.uniforms[-self.spec.num_candidates :])


@pytest.mark.parametrize("parameters", WORLDS)
def test_kernels_replay_recsim(parameters):
    assert replay(parameters) >= 200


def replay(parameters: dict) -> int:
    """Compare the kernels with RecSim on its draws; the steps compared."""
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
            clickbait = world.scores[slate[:1]]
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


class Player:
    """Stands in for a generator and gives what was recorded."""

    next: np.ndarray

    def random(self, size, dtype=np.float64, lanes_last=False) -> np.ndarray:
        return self._given(size).astype(dtype)

    def standard_normal(self, size, lanes_last=False) -> np.ndarray:
        return self._given(size)

    def _given(self, size) -> np.ndarray:
        assert self.next.size == np.prod(size)
        return self.next.reshape(size)


@pytest.mark.parametrize("parameters", WORLDS)
def test_batched_simulator_replays_recsim(parameters):
    assert replay_batched(parameters) == 4 * 3 * world_of(parameters).time_budget


def replay_batched(parameters: dict) -> int:
    """Compare the batched simulator with four of RecSim; the steps of all lanes."""
    spec, steps = world_of(parameters), 0
    worlds = [Recorded(spec, seed) for seed in range(4)]
    batched = BatchedLongTermSatisfaction(spec, num_envs=len(worlds))
    users, documents, responses = Player(), Player(), Player()
    batched._users, batched._documents, batched._responses = users, documents, responses
    rng = np.random.default_rng(3)

    def offered() -> np.ndarray:
        return np.array([world.scores for world in worlds])

    for episode in range(3):
        expected = [world.env.reset()[0] for world in worlds]
        users.next = np.array([world.users.uniforms[-1] for world in worlds])
        documents.next = offered()
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
            responses.next = np.array([world.responses.normals[-2:] for world in worlds]).T
            documents.next = offered()
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
