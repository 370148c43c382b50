"""Exported weights score like the torch module from which they come."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from slateflow.environments import preset
from slateflow.learners.features import flat_observation_space, share_of_window_left
from slateflow.learners.rllib.quiet import quiet_rllib

with quiet_rllib():
    from slateflow.learners.rllib.scoring_network import ScoringModule, export_network

WINDOW = 5


def observations(spec, count: int = 40):
    """Users, steps and candidates; also as RLlib's flat observations."""
    rng = np.random.default_rng(0)
    user = rng.random((count, spec.user_size), dtype=np.float32)
    step = rng.integers(0, spec.horizon, count, dtype=np.int32)
    step[:WINDOW] = spec.horizon - 1 - np.arange(WINDOW)
    candidates = rng.random((count, spec.num_candidates, 1), dtype=np.float32)
    left = share_of_window_left(spec, step, WINDOW)[:, None]
    flat = np.concatenate([user, left, candidates[:, :, 0]], axis=1)
    return (user, step, candidates), torch.from_numpy(flat)


def build(module_class, spec, **shape):
    """A module with shifted and scaled features."""
    rng = np.random.default_rng(1)
    size = spec.user_size + 2
    config = {
        "user_size": spec.user_size,
        "document_size": 1,
        "offset": rng.normal(size=size).tolist(),
        "scale": rng.uniform(0.5, 2, size).tolist(),
    }
    return module_class(
        observation_space=flat_observation_space(spec),
        action_space=gym.spaces.Discrete(spec.num_candidates),
        model_config={**config, **shape},
    )


def scored(module, flat: torch.Tensor) -> np.ndarray:
    """Scores of the torch module."""
    with torch.no_grad():
        return module.forward_inference({"obs": flat})["action_dist_inputs"].numpy()


@pytest.fixture(params=[True, False], ids=["satisfaction observed", "satisfaction hidden"])
def spec(request):
    return preset("modified-lts-20-2", satisfaction_observed=request.param, time_budget=20)


@pytest.mark.parametrize(("width", "layers"), [(8, 2), (3, 1), (5, 4)])
def test_a_network_scores_alike_in_numpy(spec, width, layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build(ScoringModule, spec, width=width, layers=layers, values_states=False)
        for weight in module.scorer.parameters():
            torch.nn.init.normal_(weight)  # torch's own are small, and would hide a mistake
    request, flat = observations(spec)
    scorer = export_network(module.scorer, module, spec, WINDOW)
    np.testing.assert_allclose(scorer.scores(*request), scored(module, flat), rtol=1e-5, atol=1e-5)
    assert np.ptp(scored(module, flat)) > 0.1


def test_one_candidate_is_scored_as_among_all(spec):
    module = build(ScoringModule, spec, width=8, layers=2, values_states=True)
    _, flat = observations(spec)
    action = torch.arange(len(flat)) % spec.num_candidates
    with torch.no_grad():
        every = module.score(module.scorer, flat)
        one = module.score_one(module.scorer, flat, action)
    for row in range(len(flat)):
        assert one[row] == pytest.approx(float(every[row, action[row]]), abs=1e-6)


def test_the_value_does_not_look_at_the_candidates(spec):
    module = build(ScoringModule, spec, width=8, layers=2, values_states=True)
    _, flat = observations(spec)
    other = flat.clone()
    other[:, spec.user_size + 1 :] = 0.5
    with torch.no_grad():
        one, same = module.compute_values({"obs": flat}), module.compute_values({"obs": other})
    torch.testing.assert_close(one, same)
    assert one.shape == (40,)
