"""How far each learner gets from random to the optimum, over seeds of data and training."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation import episode_returns, optimal_return
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.trajectories import Folder, Recipe, generate

SEEDS = range(5)
EPISODES = 20_000
SIZES = {"fitted-q": (2000, 200, 100), "cql": (2000,), "linucb": (2000,), "lints": (2000,)}


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("environment", ["modified-lts-20-2", "modified-lts-10-1"])
def test_scores_by_learner_and_logged_episodes(environment, tmp_path, capsys):
    baseline: dict[int, np.ndarray] = {}
    lines = [f"{environment}: score on {EPISODES:,} episodes, seconds and rows/s of training"]
    for learner, sizes in SIZES.items():
        for episodes in sizes:
            scores, seconds = [], []
            for seed in SEEDS:
                recipe = Recipe(
                    f"{episodes}-{seed}", environment, episodes, seed,
                    {"random": 0.5, "greedy": 0.5},
                )  # fmt: skip
                dataset = generate(recipe, Folder(str(tmp_path)))
                scorer, report = train(dataset, learner_config(learner), seed)
                spec = dataset.spec
                if seed not in baseline:
                    random = RandomPolicy(spec.slate_size)
                    baseline[seed] = episode_returns(spec, random, EPISODES, seed)
                returns = episode_returns(spec, ScoringPolicy(scorer), EPISODES, seed)
                optimum = optimal_return(spec)
                assert optimum is not None
                uplift = (returns - baseline[seed]).mean()
                scores.append(uplift / (optimum - baseline[seed].mean()))
                seconds.append(report.train_seconds)
            lines.append(
                f"{learner:9} from {episodes:5} episodes: min {min(scores):.3f}, "
                f"median {np.median(scores):.3f}, {np.median(seconds):5.1f} s, "
                f"{dataset.rows / np.median(seconds):,.0f} rows/s"
            )
    with capsys.disabled():
        print("", *lines, sep="\n")
