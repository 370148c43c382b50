"""Networks over items of a catalogue, of which rows may offer any number."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from slateflow.environments.logged import LoggedSpec
from slateflow.learners.features import FeatureMoments, flat_observation_space, flat_observations
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.trajectories import Trajectories
from slateflow.trajectories.catalogue import Catalogue

with quiet_rllib():
    from slateflow.learners.rllib.input import train_columns
    from slateflow.learners.rllib.offline_q import OfflineQModule
    from slateflow.learners.rllib.scoring_network import export_network

WINDOW = 3
ITEMS, OFFERED = 9, 5
SPEC = LoggedSpec(
    "shop",
    OFFERED,
    1,
    fewest_candidates=1,
    user_features=("a", "b"),
    item_features=("c", "d", "e"),
    item_count=ITEMS,
    most_steps=4,
)


def logged(rows: int = 40, counts: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Trajectories:
    """Sessions of four steps; rows offer varying numbers of items, in random order."""
    rng = np.random.default_rng(0)
    candidates = np.argsort(rng.random((rows, ITEMS)), axis=1)[:, :OFFERED].astype(np.int32)
    offered = np.resize(counts, rows)
    candidates[np.arange(OFFERED) >= offered[:, None]] = -1
    last = np.arange(rows) % 4 == 3
    return Trajectories(
        episode=np.arange(rows) // 4,
        step=(np.arange(rows) % 4).astype(np.int32),
        user=rng.normal(size=(rows, 2)).astype(np.float32),
        candidates=candidates,
        slate=rng.integers(0, offered)[:, None].astype(np.int32),
        propensity=1 / offered,
        clicked=np.zeros(rows, np.int32),
        reward=rng.normal(size=rows).astype(np.float32),
        responses={},
        terminated=last,
        truncated=np.zeros(rows, np.bool_),
        catalogue=Catalogue(rng.normal(size=(ITEMS, 3)).astype(np.float32)),
    )


def observed(rows: Trajectories) -> torch.Tensor:
    """RLlib's observations of the rows."""
    left = np.minimum(SPEC.horizon - rows.step, WINDOW) / WINDOW
    return torch.from_numpy(flat_observations(rows, left.astype(np.float32)))


def modules(rows: Trajectories) -> tuple[OfflineQModule, OfflineQModule]:
    """A network that looks up its items, and one with equal weights that receives features."""
    rng = np.random.default_rng(1)
    sizes = {
        "user_size": 2,
        "document_size": 3,
        "offset": rng.normal(size=6).tolist(),
        "scale": rng.uniform(0.5, 2, 6).tolist(),
    }
    shape = {"width": 8, "layers": 2, "values_states": True}
    built = []
    for items in (rows.catalogue.features, None):
        module = OfflineQModule(
            observation_space=flat_observation_space(SPEC, catalogue=items is not None),
            action_space=gym.spaces.Discrete(OFFERED),
            model_config={**sizes, **shape, "items": items},
        )
        for number, weight in enumerate(module.scorer.parameters()):
            noise = np.random.default_rng(number).normal(size=weight.shape)
            weight.data = torch.from_numpy(noise.astype(np.float32))
        built.append(module)
    return built[0], built[1]


def with_features(rows: Trajectories) -> torch.Tensor:
    """The observations with the features of the candidates in them."""
    known = observed(rows)[:, :3]
    features = torch.from_numpy(rows.candidate_features().reshape(len(rows), -1))
    return torch.cat([known, features], dim=1)


def test_items_that_are_looked_up_score_as_their_features_do():
    rows = logged()
    ours, theirs = modules(rows)
    found = ours.score(ours.scorer, observed(rows))
    expected = theirs.score(theirs.scorer, with_features(rows))
    there = torch.from_numpy(rows.candidates >= 0)
    torch.testing.assert_close(found[there], expected[there], rtol=1e-5, atol=1e-5)
    assert (~there).any()
    assert torch.isneginf(found[~there]).all()
    action = torch.from_numpy(rows.slate[:, 0].astype(np.int64))
    torch.testing.assert_close(
        ours.score_one(ours.scorer, observed(rows), action),
        theirs.score_one(theirs.scorer, with_features(rows), action),
        rtol=1e-5,
        atol=1e-5,
    )


def test_gradients_are_those_of_the_features_where_all_offer_as_many():
    rows = logged(counts=(OFFERED,))
    ours, theirs = modules(rows)
    for module, observation in ((ours, observed(rows)), (theirs, with_features(rows))):
        module.score(module.scorer, observation).logsumexp(dim=1).sum().backward()
    for one, other in zip(ours.scorer.parameters(), theirs.scorer.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
        assert one.grad.abs().max() > 0.1


def test_candidates_that_are_not_there_take_no_part():
    rows = logged()
    module, _ = modules(rows)
    batch = {"obs": observed(rows), "actions": torch.from_numpy(rows.slate[:, 0].astype(np.int64))}
    taken, excess = module.taken_and_excess(batch, 1.0)
    scores = module.score(module.scorer, batch["obs"]).detach().double().numpy()
    for row, (one, count) in enumerate(zip(scores, rows.offered, strict=True)):
        above = np.log(np.exp(one[:count]).sum()) - one[batch["actions"][row]]
        assert excess[row].item() == pytest.approx(above, abs=1e-4)
    (taken.sum() + excess.sum()).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in module.scorer.parameters())
    chances = module.action_dist_cls.from_logits(module.score(module.scorer, batch["obs"]))
    drawn = chances.to_deterministic().sample()
    assert (drawn.numpy() < rows.offered).all()
    assert torch.isfinite(chances.logp(batch["actions"])).all()


def test_the_exported_network_scores_alike():
    rows = logged()
    module, _ = modules(rows)
    scorer = export_network(module.scorer, module, SPEC, WINDOW)
    found = scorer.scores(rows.user, rows.step, rows.candidate_features())
    with torch.no_grad():
        expected = module.score(module.scorer, observed(rows)).numpy()
    there = rows.candidates >= 0
    np.testing.assert_allclose(found[there], expected[there], rtol=1e-5, atol=1e-5)


def test_observations_have_the_numbers_of_what_is_on_offer():
    rows = logged(8)
    columns = train_columns(rows, SPEC, WINDOW)
    assert (
        columns["obs"].shape
        == (8, 2 + 1 + OFFERED)
        == (8, *flat_observation_space(SPEC, catalogue=True).shape)
    )
    assert columns["obs"][:, 3:].tolist() == rows.candidates.tolist()
    everything = np.broadcast_to(np.arange(ITEMS, dtype=np.int32), (8, ITEMS))
    shared = dataclasses.replace(rows, candidates=everything)
    assert train_columns(shared, SPEC, WINDOW)["obs"][:, 3:].tolist() == everything.tolist()


def test_moments_are_those_of_what_is_on_offer():
    first, second = logged(40), logged(8)
    parts = [first, dataclasses.replace(second, catalogue=first.catalogue)]
    dataset = SimpleNamespace(catalogue=parts[0].catalogue, iter_parts=lambda: iter(parts))
    found = FeatureMoments.from_dataset(dataset)
    means, squares = [], []
    for rows in parts:
        for items in rows.candidates:
            features = rows.catalogue.features[items[items >= 0]].astype(float)
            means.append(features.mean(axis=0))
            squares.append((features**2).mean(axis=0))
    np.testing.assert_allclose(found.offset[3:], np.mean(means, axis=0), rtol=1e-12)
    deviation = np.sqrt(np.mean(squares, axis=0) - np.mean(means, axis=0) ** 2)
    np.testing.assert_allclose(found.scale[3:], deviation, rtol=1e-9)
    user = np.concatenate([rows.user for rows in parts]).astype(float)
    np.testing.assert_allclose(found.offset[:2], user.mean(axis=0), rtol=1e-12)
