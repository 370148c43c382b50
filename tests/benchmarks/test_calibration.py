"""Verdicts from logs against play: do their intervals hold, and how often are they wrong?

`SLATEFLOW_BENCHMARK_LOGS` draws more logs of each recipe, `SLATEFLOW_BENCHMARK_RECIPES` names some
recipes only, `SLATEFLOW_BENCHMARK_LEARNERS` learners, and `SLATEFLOW_BENCHMARK_SESSIONS` is the
size of the logs.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slateflow.environments import Observation
from slateflow.evaluation import episode_returns
from slateflow.evaluation.off_policy.double_learning import Target
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy, behaviour_policy
from slateflow.trajectories import Folder, generate, read_recipe
from slateflow.trajectories.generation.recipe import Recipe, recipe_names

RECIPES = Path(__file__).parents[2] / "datasets"
LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "40"))
SESSIONS = int(os.environ.get("SLATEFLOW_BENCHMARK_SESSIONS", "200"))
LEARNERS = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "fitted-q,linucb,slateq,logistic")
ONLY = os.environ.get("SLATEFLOW_BENCHMARK_RECIPES", "")
PLAYED = 10_000
EQUAL = "first on offer"
"""A policy exactly as good as random: candidates come in no order."""


class FirstOnOffer:
    """Shows the candidates in the order in which they are offered."""

    def __init__(self, slate_size: int) -> None:
        self.slate_size = slate_size

    def act(self, observation: Observation, rng: Any) -> Any:
        """The first places."""
        del rng
        slates = np.tile(np.arange(self.slate_size, dtype=np.int32), (self._users(observation), 1))
        return slates, np.ones(len(slates))

    def propensities(self, observation: Observation, slates: NDArray[Any]) -> Any:
        """1 for that slate."""
        same = slates == np.arange(self.slate_size)
        return np.asarray(same.all(axis=1), np.float64)

    def first_place(self, observation: Observation) -> Any:
        """1 for the first."""
        shown = np.zeros(observation["candidates"].shape[:2])
        shown[:, 0] = 1.0
        return shown

    def _users(self, observation: Observation) -> int:
        return len(observation["candidates"])


@dataclass(frozen=True)
class Judged:
    """One policy on one log: uplift over random, its interval, p-value; whether it was refused."""

    uplift: float
    low: float
    high: float
    p_value: float
    refused: bool


def judged(recipe: Recipe, targets: dict[str, Target], seed: int) -> dict[str, Judged]:
    """The verdicts on policies by a log that none of them was learnt from."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = generate(recipe.varied(SESSIONS, seed), Folder(folder))
        found = estimate_policies(dataset, targets, held_out_only=False).policies
    random, verdicts = found["random"], {}
    for name, one in found.items():
        over = (one.contributions - random.contributions).compare()
        refused = one.refusal is not None or random.refusal is not None
        verdicts[name] = Judged(over.uplift, *over.ci, over.p_value, refused)
    return verdicts


def compared(recipe: Recipe) -> tuple[dict[str, Target], dict[str, float], dict[str, float]]:
    """Policies, their true uplifts, and the deviation of an uplift in one episode of play."""
    spec = recipe.spec
    targets: dict[str, Target] = {
        "random": RandomPolicy(spec.slate_size),
        EQUAL: FirstOnOffer(spec.slate_size),
        "greedy": behaviour_policy("greedy", spec),
    }
    with tempfile.TemporaryDirectory() as folder:
        dataset = generate(recipe, Folder(folder))
        for learner in LEARNERS.split(","):
            config = learner_config(learner)
            if type(config).fits(spec):
                targets[learner] = ScoringPolicy(train(dataset, config)[0])
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
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        waiting = [pool.submit(judged, recipe, targets, 10_000 + log) for log in range(LOGS)]
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
