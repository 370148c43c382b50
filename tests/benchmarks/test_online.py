"""Scores of the learners with live users, and the steps with users that they took."""

from __future__ import annotations

import pytest

from slateflow.environments import optimal_return, preset
from slateflow.evaluation import episode_returns
from slateflow.learners import learner_config, train_live
from slateflow.policies import RandomPolicy, ScoringPolicy

SEEDS = range(3)
EPISODES = 5_000


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_scores_of_live_learners(capsys):
    spec = preset("modified-lts-20-2")
    optimum = optimal_return(spec)
    assert optimum is not None
    lines = [f"{spec.name}: score on {EPISODES:,} episodes, by seed"]
    for learner in ("ppo", "dqn"):
        for seed in SEEDS:
            scorer, report = train_live(spec, learner_config(learner), seed)
            random = episode_returns(spec, RandomPolicy(spec.slate_size), EPISODES, seed)
            returns = episode_returns(spec, ScoringPolicy(scorer), EPISODES, seed)
            score = (returns - random).mean() / (optimum - random.mean())
            lines.append(
                f"{learner} seed {seed}: {score:.3f}, {report.live_steps:,} live steps, "
                f"{report.train_seconds:.0f} s"
            )
    with capsys.disabled():
        print("", *lines, sep="\n")
