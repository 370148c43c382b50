"""Users who come in a mood that no column tells, and sessions that end with a click.

What is shown changes neither mood nor what can be earned later, so that nothing is better than what
earns most now.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from slateflow.environments.worlds import preset
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, Scorer, ScoringPolicy
from slateflow.user_models.remembering import remembering
from slateflow.user_models.session_memory import SessionMemory, fitting_memory
from tests.benchmarks.random_shops import RandomShop


def score(shop: RandomShop, folder: Path) -> tuple[float, SessionMemory]:
    """What `fitted-q` earns, 0 as random and 1 as what earns most now; and what is remembered."""
    dataset = shop.logs(folder / "logs", 1)
    stage = shop.stage(folder / "stage", dataset)
    scorer = train(dataset, learner_config("fitted-q"), 0)[0]
    random, best = stage.value(RandomPolicy(1)), stage.value(None)
    ours = stage.value(ScoringPolicy(scorer))
    return (ours - random) / (best - random), fitting_memory(dataset)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "least"), [(32, 0.85), (37, 0.88)])
def test_a_mood_changes_nothing_that_is_preferred(tmp_path, number, least):
    """Items are not remembered, whose sums change what comes next by chance."""
    found, memory = score(RandomShop(number, 2031), tmp_path)
    assert memory.decays
    assert not memory.items
    assert found > least  # 0.14 and 0.73 with items


@pytest.mark.slow
def test_a_session_that_ends_with_a_click_is_worth_the_click(tmp_path):
    shop = RandomShop(18, 2037)
    assert shop.ends == "clicks"
    found, memory = score(shop, tmp_path)
    assert memory == SessionMemory()
    assert found > 0.95  # 0.76 with the chance that ends sessions


@pytest.mark.parametrize("layers", [0, 2])
def test_a_scorer_of_rewards_alone_makes_nothing_of_items(layers):
    rng, spec = np.random.default_rng(layers), preset("modified-lts-10-1")
    spec = replace(spec, num_candidates=4)
    memory, users, documents = SessionMemory((0.5, 0.9), items=False), spec.user_size, 1
    features = users + memory.size(documents) + 1 + documents
    inputs = [features, 5, 3][: layers + 1]
    plain = Scorer(
        user_size=users + memory.size(documents), slate_size=1, horizon=9, window=3,
        offset=rng.normal(size=features + 1), scale=rng.uniform(1, 2, features + 1),
        powers=rng.integers(0, 3, (0 if layers else 7, features + 1)),
        head=rng.normal(size=(3, inputs[-1] if layers else 7)), head_bias=np.zeros(3),
        weights=tuple(
            rng.normal(size=(n + (not layer), m))
            for layer, (n, m) in enumerate(pairwise(inputs))
        ),
        biases=tuple(rng.normal(size=one) for one in inputs[1:]),
        knot_feature=np.array([features - 1]), knot_value=np.array([0.5]),
    )  # fmt: skip
    ours = remembering(plain, spec, memory)
    assert (ours.user_size, ours.document_size) == (users, documents)
    user, candidates = rng.random((6, users)), rng.random((6, 4, documents))
    kept, rewards = np.zeros((6, ours.memory_size)), np.zeros((6, 2))
    for step in range(5):
        expected = plain.scores(
            np.concatenate([user, rewards], axis=1), np.full(6, step), candidates
        )
        found = ours.scores(user, np.full(6, step), candidates, kept)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        reward = rng.normal(size=6)
        kept = ours.remember(kept, user, candidates[:, :1], np.zeros(6, int), reward)
        rewards = rewards * [0.5, 0.9] + np.arcsinh(reward)[:, None]
