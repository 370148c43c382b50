"""Narrow logs, from which learners are no worse than the logging policy."""

from __future__ import annotations

import pytest

from slateflow.evaluation import compare, episode_returns
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy, behaviour_policy
from slateflow.trajectories import Folder, Recipe, generate

pytestmark = pytest.mark.slow

EPISODES = 1000


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "policies",
    [{"greedy": 1.0}, {"opposite": 1.0}, {"random": 0.01, "opposite": 0.99}],
    ids=lambda policies: "-".join(policies),
)
def test_it_is_not_below_the_best_logging_policy(tmp_path, policies, seed):
    recipe = Recipe("narrow", "modified-lts-20-2", 1000, seed, policies)
    scorer, _ = train(generate(recipe, Folder(str(tmp_path))), learner_config("fitted-q"), seed)
    learnt = episode_returns(recipe.spec, ScoringPolicy(scorer), EPISODES, seed)
    for behaviour in recipe.behaviours.values():
        logged = episode_returns(
            recipe.spec, behaviour_policy(behaviour, recipe.spec), EPISODES, seed
        )
        assert compare(learnt, logged).ci[1] > 0
