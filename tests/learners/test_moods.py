"""Users with a hidden mood, and sessions that end with a click.

Items change neither mood nor later rewards, so the highest immediate reward is the best choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slateflow.environments.worlds import preset
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, Scorer, ScoringPolicy
from slateflow.user_models.session_memory import SessionMemory, fitting_memory
from slateflow.user_models.session_scorers import with_session_memory
from tests.benchmarks.random_shops import RandomShop
from tests.evaluation.off_policy.tired_shop import FADES, KINDS, Chooser, TiredShop

REWARDS = SessionMemory((0.5, 0.9), items=False)


def score(shop: RandomShop, folder: Path) -> tuple[float, SessionMemory]:
    """Score of `fitted-q`, 0 random and 1 the highest immediate reward; and the logs' memory."""
    dataset = shop.logs(folder / "logs", 1)
    stage = shop.stage(folder / "stage", dataset)
    scorer = train(dataset, learner_config("fitted-q"), 0)[0]
    random, best = stage.value(RandomPolicy(1)), stage.value(None)
    ours = stage.value(ScoringPolicy(scorer))
    return (ours - random) / (best - random), fitting_memory(dataset)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "least"), [(32, 0.85), (37, 0.88)])
def test_a_mood_changes_nothing_that_is_preferred(tmp_path, number, least):
    """Items are not remembered: their sums would only add effects of chance."""
    found, memory = score(RandomShop(number, 2031), tmp_path)
    assert memory.decays
    assert not memory.items
    assert found > least  # 0.14 and 0.73 with items


class MoodyShop(TiredShop):
    """Users with a mood, who tire of seen items."""

    def steps(self, policy: Chooser, sessions: int, seed: int) -> Iterator[dict[str, NDArray[Any]]]:
        rng = np.random.default_rng(seed)
        kinds, lanes = rng.integers(0, KINDS, sessions), np.arange(sessions)
        mood, tired = rng.normal(0, 1, sessions), np.zeros((sessions, self.items))
        for time in range(20):
            probability = policy.probabilities(kinds, lanes)
            drawn = rng.random((sessions, 1)) > np.cumsum(probability, axis=1)
            item = np.minimum(drawn.sum(axis=1), self.items - 1)
            odds = self.taste[kinds, item] + mood - self.tiredness * tired[lanes, item]
            yield {
                "session": lanes,
                "time": np.full(sessions, time),
                "kind": kinds,
                "item": item,
                "propensity": probability[lanes, item],
                "reward": (rng.random(sessions) < 1 / (1 + np.exp(-odds))).astype(np.int64),
            }
            tired *= FADES
            tired[lanes, item] += 1


@pytest.mark.parametrize(("tiredness", "items"), [(0.7, True), (0.0, False)])
def test_items_are_remembered_where_users_tire_of_them(tmp_path, tiredness, items):
    """A dozen items have many sums with little information; similarity to the shown item has it."""
    memory = fitting_memory(MoodyShop(tiredness, 12).logs(tmp_path, 1_500, 0))
    assert memory.decays
    assert memory.items == items


def test_many_items_are_not_remembered(tmp_path):
    """Sums of 60 items would have 4,000 products with the items, which would take too long."""
    memory = fitting_memory(MoodyShop(0.7, 60).logs(tmp_path, 600, 0))
    assert memory.decays
    assert not memory.items


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shop", "ends", "least"),
    [
        (RandomShop(0, 2031), "up to five", 0.8),  # 0.62 with sums of items, which count the steps
        (RandomShop(18, 2037), "clicks", 0.95),  # 0.76 with the chance that ends sessions
    ],
    ids=["up to five", "clicks"],
)
def test_the_end_of_a_session_is_no_effect_of_what_was_shown(tmp_path, shop, ends, least):
    assert shop.ends == ends
    found, memory = score(shop, tmp_path)
    assert memory == SessionMemory()
    assert found > least


def plain_scorer(layers: int) -> Scorer:
    """A scorer of `modified-lts-10-1` with the sums of rewards among the user's features."""
    rng, users = np.random.default_rng(layers), preset("modified-lts-10-1").user_size
    features = users + REWARDS.size(1) + 1 + 1
    inputs = [features, 5, 3][: layers + 1]
    return Scorer(
        user_size=users + REWARDS.size(1), slate_size=1, horizon=9, window=3,
        offset=rng.normal(size=features + 1), scale=rng.uniform(1, 2, features + 1),
        powers=rng.integers(0, 3, (0 if layers else 7, features + 1)),
        head=rng.normal(size=(3, inputs[-1] if layers else 7)), head_bias=np.zeros(3),
        weights=tuple(
            rng.normal(size=(n + (not layer), m)) for layer, (n, m) in enumerate(pairwise(inputs))
        ),
        biases=tuple(rng.normal(size=one) for one in inputs[1:]),
        knot_feature=np.array([features - 1]), knot_value=np.array([0.5]),
    )  # fmt: skip


@pytest.mark.parametrize("layers", [0, 2])
def test_a_scorer_of_rewards_alone_makes_nothing_of_items(layers):
    rng, spec, plain = np.random.default_rng(1), preset("modified-lts-10-1"), plain_scorer(layers)
    ours = with_session_memory(plain, spec, REWARDS)
    assert (ours.user_size, ours.document_size) == (spec.user_size, 1)
    user, candidates = rng.random((6, spec.user_size)), rng.random((6, 4, 1))
    kept, rewards, counts = np.zeros((6, ours.memory_size)), np.zeros((6, 2)), np.zeros((6, 2))
    for step in range(5):
        steps = np.full(6, step)
        known = np.concatenate([user, rewards, counts], axis=1)
        expected = plain.scores(known, steps, candidates)
        found = ours.scores(user, steps, candidates, kept)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        reward = rng.normal(size=6)
        kept = ours.remember(kept, user, candidates[:, :1], np.zeros(6, int), reward)
        rewards = rewards * REWARDS.decays + np.arcsinh(reward)[:, None]
        counts = counts * REWARDS.decays + 1
