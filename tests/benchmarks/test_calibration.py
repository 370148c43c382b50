"""Verdicts from logs against play: do their intervals hold, and how often are they wrong?

`SLATEFLOW_BENCHMARK_LOGS` draws more logs of each recipe, `SLATEFLOW_BENCHMARK_RECIPES` selects
recipes, `SLATEFLOW_BENCHMARK_LEARNERS` learners, perhaps none, `SLATEFLOW_BENCHMARK_SESSIONS` is
the size of the logs, and `SLATEFLOW_BENCHMARK_SEED` the first seed of the recipes. No two recipes
share a seed: with the same seed, worlds that differ in a parameter have the same users, and their
misses would be counted twice.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slateflow.evaluation import episode_returns
from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, learners_for, train
from slateflow.policies import RandomPolicy, ScoringPolicy, behaviour_policy
from slateflow.trajectories import Folder, generate, read_recipe
from slateflow.trajectories.generation.recipe import Recipe, recipe_names
from tests.evaluation.off_policy.first_on_offer import FirstOnOffer

RECIPES = Path(__file__).parents[2] / "datasets"
LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "200"))
LEARNERS = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "fitted-q,linucb,slateq,logistic")
FIRST_SEED, APART = int(os.environ.get("SLATEFLOW_BENCHMARK_SEED", "19000")), 1_000
ONLY = os.environ.get("SLATEFLOW_BENCHMARK_RECIPES", "")
PLAYED = 10_000
EQUAL = "first on offer"
"""A policy exactly as good as random: candidates have no order."""


@dataclass(frozen=True)
class Judged:
    """A policy on a log: uplift over random, its interval and p-value; whether it was refused."""

    uplift: float
    low: float
    high: float
    p_value: float
    refused: bool


def judged(recipe: Recipe, targets: dict[str, Target], seed: int) -> dict[str, Judged]:
    """The verdicts on policies from a log from which none of them was learnt."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = generate(recipe.varied(SESSIONS, seed), Folder(folder))
        found = estimate_policies(dataset, targets, held_out_only=False).policies
    random, verdicts = found["random"], {}
    for name, one in found.items():
        over = one.over(random).compare()
        refused = one.refusal is not None or random.refusal is not None
        verdicts[name] = Judged(over.uplift, *over.ci, over.p_value, refused)
    return verdicts


def compared(recipe: Recipe) -> tuple[dict[str, Target], dict[str, float], dict[str, float]]:
    """Policies, their true uplifts, and the standard deviation of an uplift per played episode."""
    spec = recipe.spec
    targets: dict[str, Target] = {
        "random": RandomPolicy(spec.slate_size),
        EQUAL: FirstOnOffer(spec.slate_size),
        "greedy": behaviour_policy("greedy", spec),
    }
    with tempfile.TemporaryDirectory() as folder:
        dataset = generate(recipe, Folder(folder))
        for learner in filter(None, LEARNERS.split(",")):
            if learner in learners_for(spec):
                scorer, _ = train(dataset, learner_config(learner))
                targets[learner] = ScoringPolicy(scorer)
    returns = {
        name: episode_returns(spec, target, PLAYED, 99)  # type: ignore[arg-type]
        for name, target in targets.items()
    }
    uplifts = {name: one - returns["random"] for name, one in returns.items()}
    truth = {name: float(one.mean()) for name, one in uplifts.items()} | {EQUAL: 0.0}
    return targets, truth, {name: float(one.std()) for name, one in uplifts.items()}


@pytest.mark.benchmark
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("name", ONLY.split(",") if ONLY else recipe_names(RECIPES))
def test_verdicts_from_logs_against_play(name, capsys):
    """Print how often intervals hold, and how often a policy is wrongly called better."""
    recipe = read_recipe(RECIPES, name)
    if not isinstance(recipe, Recipe):
        pytest.skip("its logs are not simulated")
    targets, truth, deviation = compared(recipe)
    first = FIRST_SEED + APART * recipe_names(RECIPES).index(name)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        waiting = [pool.submit(judged, recipe, targets, first + log) for log in range(LOGS)]
        found = [one.result() for one in waiting]
    with capsys.disabled():
        print(f"\n{name}: {LOGS} logs of {SESSIONS} sessions")
        print("policy           uplift  estimate   held  better  worse  refused  ±95%  by play")
        for target in targets:
            if target == "random":
                continue
            verdicts = [one[target] for one in found]
            given = [one for one in verdicts if not one.refused]
            print(f"{target:14} {truth[target]:8.2f}", end=" ")
            if not given:
                print(f"{'':9} {'':6} {'':7} {'':6} {1:8.2f}")
                continue
            held = np.mean([one.low <= truth[target] <= one.high for one in given])
            sure = [one for one in given if one.p_value < 0.05]
            better = sum(one.uplift > 0 for one in sure) / len(given)
            half = np.median([(one.high - one.low) / 2 for one in given])
            play = 1.96 * deviation[target] / np.sqrt(SESSIONS)
            print(
                f"{np.mean([one.uplift for one in given]):9.2f} {held:6.3f} {better:7.3f} "
                f"{len(sure) / len(given) - better:6.3f} {1 - len(given) / LOGS:8.2f} "
                f"{half:5.2f} {play:8.2f}"
            )
