"""A world added by another package: one record, without other changes to ours."""

from __future__ import annotations

import pytest

from slateflow.environments import (
    WORLDS,
    batched_environment,
    optimal_return,
    preset,
    recsim_environment,
    world_of,
)
from slateflow.errors import InputError
from slateflow.evaluation import measure_baselines, optimal_returns
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.trajectories import Folder, Recipe, generate
from tests.environments import coins


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The world in the list for these tests, and for no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WORLDS, "_entries", dict(WORLDS._entries))
        WORLDS.register("coins", coins.WORLD)
        yield


@pytest.fixture(scope="module")
def dataset(registered, tmp_path_factory):
    recipe = Recipe("coins", "coins", 600, 7, {"random": 0.5, "greedy": 0.5})
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("coins"))))


def test_a_preset_is_found_by_its_name():
    assert world_of(preset("coins")) is coins.WORLD
    assert preset("coins", heads=[0.1, 0.9]).heads == (0.1, 0.9)
    with pytest.raises(InputError, match="steps: expected a whole number"):
        preset("coins", steps=1.5)


def test_behaviour_policies_earn_what_their_coins_give():
    earned = {one.policy: one for one in measure_baselines(preset("coins"), 1500, seed=1)}
    for policy, mean in {"random": 3 * 0.55, "greedy": 3 * 0.7, "opposite": 3 * 0.4}.items():
        assert abs(earned[policy].mean - mean) < 4 * earned[policy].sem
    assert earned["greedy"].label == "the first coin"
    assert optimal_return(preset("coins")) == pytest.approx(2.1)
    # Without a rule to play it, every episode is expected to earn it
    assert optimal_returns(preset("coins"), 3, seed=1) == pytest.approx([2.1] * 3)


def test_its_logs_say_the_world_and_learners_learn_the_better_coin(dataset):
    assert (dataset.rows, dataset.spec) == (1800, preset("coins"))
    scorer, _ = train(dataset, learner_config("linucb"))
    env = batched_environment(dataset.spec, 5, seed=3)
    observation, _ = env.reset()
    slates, _ = ScoringPolicy(scorer).act(observation, rng=None)
    assert slates.tolist() == [[0]] * 5


def test_what_it_does_not_have_is_an_error_and_not_a_default():
    with pytest.raises(InputError, match="expected a world of RecSim, got coins"):
        recsim_environment(preset("coins"))
