"""How good each learner's policy is in each world, over seeds of data and training."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest

from slateflow.environments import EnvironmentSpec
from slateflow.evaluation import episode_returns, optimal_return
from slateflow.learners import learner_config, learners_for, train
from slateflow.policies import RandomPolicy, ScoringPolicy, behaviour_policy
from slateflow.trajectories import Folder, Recipe, generate

SEEDS = range(int(os.environ.get("SLATEFLOW_BENCHMARK_SEEDS", "5")))
ONLY = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "")


@dataclass(frozen=True)
class World:
    """What is measured in a world.

    Attributes:
        logged: Episodes in the logs.
        evaluated: Episodes that a policy plays.
        fewer: Smaller logs, for the best learner.
        published: What others report, as they report it.
    """

    logged: int = 2000
    evaluated: int = 20_000
    fewer: tuple[int, ...] = ()
    published: str = ""


TUTORIAL = (
    "published (RLlib's RecSim tutorial, 2022, trained live): LinUCB about 0.21, SlateQ 0.21 after "
    "600,000 steps and 1,174 s"
)
WORLDS = {
    "modified-lts-20-2": World(fewer=(200, 100), published=TUTORIAL),
    "modified-lts-10-1": World(fewer=(200, 100)),
    "modified-lts-20-2-hidden": World(),
    "lts-20-2": World(),
    "lts-10-1": World(),
    "interest-evolution": World(
        1000,
        4000,
        published="published (SlateQ's paper, on its domain): random 159.2, myopic 166.3, best "
        "SlateQ 174.6; quality ranking 264.2, tuned index 280.4",
    ),
    "interest-exploration": World(
        1000,
        20_000,
        published="of 100 steps: quality ranking 44.6, oracle of the user type 44.9, optimum 45.1",
    ),
}


def figures(spec: EnvironmentSpec, returns: np.ndarray, seed: int, episodes: int) -> float:
    """The normalised score where the optimum is known, else the mean return."""
    optimum = optimal_return(spec)
    if optimum is None:
        return float(returns.mean())
    random = episode_returns(spec, RandomPolicy(spec.slate_size), episodes, seed)
    return float((returns - random).mean() / (optimum - random.mean()))


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("environment", WORLDS)
def test_policies_by_learner(environment, tmp_path, capsys):
    world = WORLDS[environment]

    def logs(episodes: int, seed: int):
        shares = {"random": 0.5, "greedy": 0.5}
        recipe = Recipe(f"{episodes}-{seed}", environment, episodes, seed, shares)
        return generate(recipe, Folder(str(tmp_path)))

    def line(name: str, values: list[float], rest: str = "") -> str:
        return f"{name:24} min {min(values):8.3f}   median {np.median(values):8.3f}   {rest}"

    spec = logs(world.logged, 0).spec
    measured = "mean return" if optimal_return(spec) is None else "normalised score"
    lines = [f"{environment}: {measured}, {world.evaluated:,} episodes, {len(SEEDS)} seeds"]
    for name in ("random", "greedy"):
        values = []
        for seed in SEEDS:
            returns = episode_returns(spec, behaviour_policy(name, spec), world.evaluated, seed)
            values.append(figures(spec, returns, seed, world.evaluated))
        lines.append(line(name, values))
    chosen = [name for name in learners_for(spec) if not ONLY or name in ONLY.split(",")]
    cases = [(name, world.logged) for name in chosen]
    cases += [("fitted-q", fewer) for fewer in world.fewer if "fitted-q" in chosen]
    for learner, episodes in cases:
        values, seconds, rows = [], [], 0
        for seed in SEEDS:
            dataset = logs(episodes, seed)
            scorer, report = train(dataset, learner_config(learner), seed)
            returns = episode_returns(spec, ScoringPolicy(scorer), world.evaluated, seed)
            values.append(figures(spec, returns, seed, world.evaluated))
            seconds.append(report.train_seconds)
            rows = dataset.rows
        rate = rows / np.median(seconds)
        cost = f"{np.median(seconds):6.1f} s   {rate:9,.0f} rows/s"
        lines.append(line(f"{learner}, {episodes:,} episodes", values, cost))
    with capsys.disabled():
        print("", *lines, *filter(None, [world.published]), sep="\n")
