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
from slateflow.evaluation.off_policy.estimates import estimate_policies, evidence_of
from slateflow.learners import learner_config, train
from slateflow.policies import Policy, RandomPolicy, Scorer, ScoringPolicy
from slateflow.user_models.remembering import remembered_by, remembering
from slateflow.user_models.session_memory import (
    SessionMemory,
    SessionState,
    fitting_memory,
    session_state,
)
from tests.benchmarks.random_shops import RandomShop

REWARDS = SessionMemory((0.5, 0.9), items=False)


def score(shop: RandomShop, folder: Path) -> tuple[float, SessionMemory]:
    """The score of `fitted-q`, 0 random and 1 what earns most now; and the memory of the logs."""
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
def test_the_number_of_the_step_is_no_memory(tmp_path):
    """Sums of what was shown count the steps, and these end sessions of up to five."""
    shop = RandomShop(0, 2031)
    assert shop.ends == "up to five"
    found, memory = score(shop, tmp_path)
    assert memory == SessionMemory()
    assert found > 0.8  # 0.62 with items


@pytest.mark.slow
def test_a_session_that_ends_with_a_click_is_worth_the_click(tmp_path):
    shop = RandomShop(18, 2037)
    assert shop.ends == "clicks"
    found, memory = score(shop, tmp_path)
    assert memory == SessionMemory()
    assert found > 0.95  # 0.76 with the chance that ends sessions


def plain_scorer(layers: int) -> Scorer:
    """A scorer of `modified-lts-10-1` to which the sums of rewards are given with the user."""
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
    ours = remembering(plain, spec, REWARDS)
    assert (ours.user_size, ours.document_size) == (spec.user_size, 1)
    user, candidates = rng.random((6, spec.user_size)), rng.random((6, 4, 1))
    kept, rewards = np.zeros((6, ours.memory_size)), np.zeros((6, 2))
    for step in range(5):
        steps = np.full(6, step)
        expected = plain.scores(np.concatenate([user, rewards], axis=1), steps, candidates)
        found = ours.scores(user, steps, candidates, kept)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(
            ours.scores(user, steps, candidates, REWARDS.of_scorers(rewards, 1)), expected
        )
        reward = rng.normal(size=6)
        kept = ours.remember(kept, user, candidates[:, :1], np.zeros(6, int), reward)
        rewards = rewards * REWARDS.decays + np.arcsinh(reward)[:, None]


@pytest.mark.parametrize("layers", [0, 2])
def test_a_scorer_says_what_it_remembers(layers):
    scorer, spec = plain_scorer(layers), preset("modified-lts-10-1")
    assert remembered_by(scorer) == SessionMemory()
    alone = remembering(scorer, spec, REWARDS)
    assert remembered_by(alone) == REWARDS
    of_items = np.zeros(len(alone.offset), np.int64)
    of_items[spec.user_size] = 1
    if layers:
        first, *others = alone.weights
        alone = replace(alone, weights=(first + of_items[:, None], *others))
    else:
        alone = replace(alone, powers=alone.powers + of_items)
    assert remembered_by(alone) == SessionMemory(REWARDS.decays)


@pytest.mark.slow
def test_verdicts_follow_a_mood_by_the_rewards(tmp_path):
    shop = RandomShop(37, 2037)
    assert shop.mood
    dataset = shop.logs(tmp_path / "logs", 1)
    state = session_state(dataset)
    assert state.by_step  # sums of rewards alone do not count the steps
    assert state.memory.decays
    assert not state.memory.items
    stage = shop.stage(tmp_path / "stage", dataset)
    targets: dict[str, Policy] = {
        learner: ScoringPolicy(train(dataset, learner_config(learner), 0)[0])
        for learner in ("linucb", "fitted-q")
    }
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    for name, target in targets.items():
        assert found[name].refusal is None  # with items the estimate rested on too few steps
        low, high = found[name].contributions.interval()
        assert low < stage.value(target) < high
    policy = targets["fitted-q"]
    assert isinstance(policy, ScoringPolicy)
    assert remembered_by(policy.scorer) == fitting_memory(dataset)
    every = SessionMemory(fitting_memory(dataset).decays)
    known = [
        evidence_of(dataset.read(), dataset.spec, SessionState(one)).probabilities(policy)
        for one in (every, replace(every, items=False))
    ]
    np.testing.assert_array_equal(*known)
