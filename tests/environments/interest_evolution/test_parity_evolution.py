"""Interest evolution against RecSim itself, step by step, on RecSim's own draws."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import preset
from slateflow.environments.interest_evolution import dynamics as evolution
from slateflow.environments.interest_evolution.simulator import BatchedInterestEvolution
from tests.environments.recording import EQUAL, Player, Recorded, variants

PARAMETERS = {
    "recsims": {},
    "others": {
        "num_features": 10,
        "time_budget": 31.5,
        "no_click_mass": 0.4,
        "min_normalizer": -1.3,
        "step_penalty": 0.7,
        "user_update_alpha": 0.2,
        "user_quality_factor": 0.6,
        "document_quality_factor": 0.8,
        "alpha_x_intercept": 0.9,
        "alpha_y_intercept": 0.5,
        "min_utility": -2.0,
        "max_utility": 1.5,
        "video_length": 3.3,
        "num_candidates": 6,
        "step_limit": 26,
    },
}
WORLDS = variants(PARAMETERS)
INTERESTS = {"rtol": 1e-12, "atol": 1e-12}  # they pass through 0


def documents(world: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and qualities of the candidates by the kernel, which have to equal RecSim's."""
    count = world.spec.num_candidates
    clusters = np.array(world.documents.integers[-count:])
    quality = evolution.quality(world.spec, clusters, np.array(world.documents.normals[-count:]))
    assert clusters.tolist() == [one.cluster_id for one in world.offered]
    np.testing.assert_allclose(quality, [one.quality for one in world.offered], **INTERESTS)
    return clusters, quality


@pytest.mark.parametrize("parameters", WORLDS)
def test_kernels_replay_recsim(parameters):
    assert replay(parameters) >= 300


def replay(parameters: dict) -> int:
    """Compare the kernels with RecSim on its draws; returns the number of compared steps."""
    spec = preset("interest-evolution", **parameters)
    world, rng = Recorded(spec, seed=1), np.random.default_rng(2)
    steps = clicks = ends = cuts = 0
    while steps < 300:
        world.env.reset()
        drawn = np.array([world.users.uniforms[-spec.num_features :]])
        interests, budget = evolution.initial_interests(drawn), np.array([spec.time_budget])
        over, step = False, 0
        while not over:
            np.testing.assert_allclose(interests[0], world.state.user_interests, **INTERESTS)
            clusters, quality = documents(world)
            slate = rng.permutation(spec.num_candidates)[: spec.slate_size]
            before = len(world.responses.uniforms)
            _, reward, terminated, truncated, info = world.env.step(slate)
            drawn = np.array(world.responses.uniforms[before:])
            clicked = evolution.clicked_place(spec, interests, clusters[slate][None], drawn[:1])
            assert clicked[0] == info["clicked"]
            any_click = clicked >= 0
            assert len(drawn) == 1 + any_click[0]
            shown = slate[clicked]
            interest = interests[0, clusters[shown]]
            watched = evolution.watch_time(spec, budget)[0] if any_click[0] else 0.0
            np.testing.assert_allclose(watched, reward, **INTERESTS)
            budget = evolution.next_budget(spec, budget, any_click, interest, quality[shown])
            if any_click[0]:
                moved = evolution.next_interest(spec, interest, drawn[1:])
                interests[0, clusters[shown]] = moved
            np.testing.assert_allclose(budget[0], world.state.time_budget, **INTERESTS)
            step += 1
            assert terminated == (budget[0] <= 0)
            assert truncated == (step == spec.step_limit and not terminated)
            over = terminated or truncated
            ends += terminated
            cuts += truncated
            clicks += int(any_click[0])
        steps += step
    assert ends + cuts >= 2
    assert 0.05 * steps < clicks < 0.98 * steps
    return steps


class Lanes:
    """Four users of RecSim, and the batched simulator on their draws."""

    def __init__(self, spec) -> None:
        self.spec = spec
        self.worlds = [Recorded(spec, seed) for seed in range(4)]
        self.batched = BatchedInterestEvolution(spec, num_envs=4)
        self.flips = np.ones(4)  # of no effect without a click
        users, count = spec.num_features, spec.num_candidates
        self.batched._users = Player(lambda: [w.users.uniforms[-users:] for w in self.worlds])
        self.batched._documents = Player(
            normals=lambda: [w.documents.normals[-count:] for w in self.worlds],
            integers=lambda: [w.documents.integers[-count:] for w in self.worlds],
        )
        self.batched._responses = Player(lambda: [self.choices, self.flips], lambda: self.noise)
        self.choices, self.noise = np.zeros(4), np.zeros(4)

    def step(self, lane: int, slate: np.ndarray) -> tuple:
        """A step of one of RecSim's users, whose draws the lane replays."""
        world = self.worlds[lane]
        before = len(world.responses.uniforms)
        noise = world.documents.normals[-self.spec.num_candidates :]
        played = world.env.step(slate)
        self.noise[lane] = noise[slate[played[4]["clicked"]]]  # of no effect without a click
        drawn = [*world.responses.uniforms[before:], 1.0]
        self.choices[lane], self.flips[lane] = drawn[:2]
        return played

    def reset(self, lane: int) -> tuple:
        """RecSim's next user, in the form of a step, for comparison with the lane."""
        observation, _ = self.worlds[lane].env.reset()
        blank = dict.fromkeys(self.spec.response_columns, np.float32(0))
        return observation, 0.0, False, False, {**blank, "clicked": -1}


@pytest.mark.parametrize("parameters", WORLDS)
def test_batched_simulator_replays_recsim_and_resets_lane_by_lane(parameters):
    assert replay_batched(parameters) > 900


def replay_batched(parameters: dict) -> int:
    """Compare the batched simulator with four of RecSim; returns the steps of all lanes."""
    spec = preset("interest-evolution", **parameters)
    lanes, rng = Lanes(spec), np.random.default_rng(3)
    expected = [lanes.reset(lane)[0] for lane in range(4)]
    observation, _ = lanes.batched.reset()
    over, ends, moments, steps = [False] * 4, 0, set(), 0
    for moment in range(250):
        for key, values in observation.items():
            stacked = np.stack([one[key] for one in expected])
            np.testing.assert_allclose(values, stacked, rtol=1e-6, atol=1e-12)
            assert values.dtype == stacked.dtype
        slates = rng.permuted(np.tile(np.arange(spec.num_candidates), (4, 1)), axis=1)
        slates = slates[:, : spec.slate_size]
        played = [
            lanes.reset(lane) if over[lane] else lanes.step(lane, slates[lane]) for lane in range(4)
        ]
        steps += 4 - sum(over)
        slates[over] = -7  # ignored
        observation, rewards, terminated, truncated, infos = lanes.batched.step(slates)
        expected = [one[0] for one in played]
        np.testing.assert_allclose(rewards, [one[1] for one in played], **INTERESTS)
        assert terminated.tolist() == [one[2] for one in played]
        assert truncated.tolist() == [one[3] for one in played]
        for name, values in infos.items():
            np.testing.assert_allclose(
                values, [one[4][name] for one in played], rtol=1e-6, atol=1e-12
            )
        assert set(infos) == (set() if all(over) else set(played[0][4]))
        states = [world.state for world in lanes.worlds]
        np.testing.assert_allclose(
            lanes.batched._interests, [state.user_interests for state in states], **INTERESTS
        )
        np.testing.assert_allclose(
            lanes.batched._budget, [state.time_budget for state in states], **INTERESTS
        )
        over = [one[2] or one[3] for one in played]
        ends += sum(over)
        if any(over) and not all(over):
            moments.add(moment)
    assert ends >= 4
    assert len(moments) > 2  # lanes end at steps of their own
    np.testing.assert_allclose(
        evolution.cluster_means(spec),
        lanes.worlds[0].env._world._document_sampler.cluster_means,
        **EQUAL,
    )
    return steps
