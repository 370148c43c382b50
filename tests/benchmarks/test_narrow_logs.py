"""Learners of values from narrow logs: no worse than the best logging policy."""

from __future__ import annotations

import os

import numpy as np
import pytest

from slateflow.environments import optimal_return
from slateflow.evaluation import episode_returns
from slateflow.evaluation.returns import standard_error
from slateflow.learners import learner_config, train
from slateflow.policies import Policy, RandomPolicy, ScoringPolicy, behaviour_policy
from slateflow.trajectories import Folder, Recipe, generate

LOGS = {
    "greedy alone": {"greedy": 1.0},
    "opposite alone": {"opposite": 1.0},
    "1% random, 99% opposite": {"random": 0.01, "opposite": 0.99},
    "softmax, T 0.1": {"softmax": {"share": 1.0, "scorer": "greedy", "temperature": 0.1}},
}
LEARNERS = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "fitted-q,cql,iql").split(",")
SEEDS = range(int(os.environ.get("SLATEFLOW_BENCHMARK_SEEDS", "5")))
PLAYED = 5000


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("title", LOGS)
def test_narrow_logs(title, tmp_path, capsys):
    """Print the scores from 1,000 logged episodes of modified-lts-20-2, and of the loggers."""
    scores: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for seed in SEEDS:
        recipe = Recipe(f"narrow-{seed}", "modified-lts-20-2", 1000, seed, LOGS[title])
        dataset, spec = generate(recipe, Folder(str(tmp_path))), recipe.spec
        random = episode_returns(spec, RandomPolicy(spec.slate_size), PLAYED, seed).mean()
        optimum = optimal_return(spec)
        assert optimum is not None
        policies: dict[str, Policy] = {
            name: behaviour_policy(behaviour, spec) for name, behaviour in recipe.behaviours.items()
        }
        logged = list(policies)
        for learner in LEARNERS:
            scorer, _ = train(dataset, learner_config(learner), seed)
            policies[f"learnt: {learner}"] = ScoringPolicy(scorer)
        returns = {
            name: episode_returns(spec, policy, PLAYED, seed) for name, policy in policies.items()
        }
        best = max((returns[name] for name in logged), key=np.mean)
        for name, one in returns.items():
            scores.setdefault(name, []).append((one.mean() - random) / (optimum - random))
            ahead = one - best
            error = standard_error(ahead)
            errors.setdefault(name, []).append(ahead.mean() / error if error else 0.0)
    with capsys.disabled():
        print(f"\n{title}: score, min and median of {len(SEEDS)} seeds")
        print("and the least lead over the best of who logged, in standard errors")
        for name, values in scores.items():
            least = min(errors[name])
            print(f"{name:18} {min(values):7.3f} {np.median(values):7.3f} {least:7.1f}")
