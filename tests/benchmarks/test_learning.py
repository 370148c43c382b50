"""Quality of each learner's policy in each world, over seeds of data and training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from slateflow.environments import EnvironmentSpec, batched_environment, optimal_return
from slateflow.environments.interest_exploration.spec import InterestExplorationSpec
from slateflow.environments.long_term_satisfaction.optimum import OptimalRule
from slateflow.evaluation import episode_returns, optimal_returns
from slateflow.learners import learner_config, learners_for, train
from slateflow.policies import GreedyPolicy, RandomPolicy, ScoringPolicy, behaviour_policy
from slateflow.policies.play import play
from slateflow.trajectories import Folder, Recipe, generate

SEEDS = range(int(os.environ.get("SLATEFLOW_BENCHMARK_SEEDS", "5")))
ONLY = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "")


@dataclass(frozen=True)
class Row:
    """A line of a world's table: a learner or policy, its logs, and its figures."""

    name: str
    logged: str = ""
    low: str = ""
    median: str = ""
    seconds: str = ""
    rate: str = ""

    def __str__(self) -> str:
        cells = (self.name, self.logged, self.low, self.median, self.seconds, self.rate)
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class World:
    """The measurements of a world.

    Attributes:
        logged: Episodes in the logs.
        evaluated: Episodes that a policy plays.
        fewer: Smaller logs, for the best learner.
        overrides: Parameters of the world that differ from the preset's.
        published: Published figures, as reported.
    """

    logged: int = 2000
    evaluated: int = 20_000
    fewer: tuple[int, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)
    published: tuple[Row, ...] = ()


TUTORIAL = "published, RLlib's RecSim tutorial 2022, trained live"
PAPER = "published, SlateQ's paper, on its domain"
KNOWN = "by what logs do not show"
WORLDS = {
    "modified-lts-20-2": World(
        fewer=(200, 100),
        published=(
            Row(f"{TUTORIAL}: LinUCB", median="about 0.21"),
            Row(f"{TUTORIAL}: SlateQ, 600,000 steps", median="0.21", seconds="1,174", rate="500"),
        ),
    ),
    "modified-lts-10-1": World(fewer=(200, 100)),
    "modified-lts-20-2-hidden": World(),
    **{
        f"modified-lts-20-2, noise {sweet} and {plain}": World(
            1000, overrides={"choc_stddev": sweet, "kale_stddev": plain}
        )
        for sweet, plain in ((2.0, 0.1), (1.0, 0.3), (0.1, 1.0))
    },
    "modified-lts-20-2, sensitivity 0.1": World(1000, overrides={"sensitivity": 0.1}),
    "lts-20-2": World(),
    "lts-10-1": World(),
    "interest-evolution": World(
        1000,
        4000,
        published=(
            Row(f"{KNOWN}: ranking by quality", median="264.2"),
            Row(f"{KNOWN}: tuned index of quality and interest", median="280.4"),
            Row(f"{PAPER}: random", median="159.2"),
            Row(f"{PAPER}: myopic", median="166.3"),
            Row(f"{PAPER}: the best SlateQ", median="174.6"),
        ),
    ),
    # RecSim's users never leave; the longer they stay, the more informative their clicks.
    "interest-exploration": World(500, 10_000),
    "interest-exploration, 100 steps": World(1000, 20_000, overrides={"step_limit": 100}),
}


@pytest.fixture(scope="module")
def tables(request) -> Iterator[list[str]]:
    """The tables of all worlds, printed at the end as in the README."""
    lines: list[str] = []
    yield lines
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *lines, sep="\n")


def measure(spec: EnvironmentSpec) -> str:
    """Name of the number that `figure` computes: the score where the optimum is known."""
    if optimal_return(spec) is not None:
        return "score"
    if isinstance(spec, InterestExplorationSpec):
        return f"clicks a step, sessions of {spec.step_limit} steps"
    return "mean return"


def figure(spec: EnvironmentSpec, returns: np.ndarray, seed: int) -> float:
    """One number for a policy's returns."""
    ends = random_and_optimum(spec, len(returns), seed)
    if ends is None:
        steps = spec.step_limit if isinstance(spec, InterestExplorationSpec) else 1
        return float(returns.mean()) / steps
    random, optimum = ends
    return (float(returns.mean()) - random) / (optimum - random)


@cache
def random_and_optimum(
    spec: EnvironmentSpec, episodes: int, seed: int
) -> tuple[float, float] | None:
    """Mean returns of random and the optimal policy on the users of all policies."""
    optimum = optimal_returns(spec, episodes, seed)
    if optimum is None:
        return None
    random = episode_returns(spec, RandomPolicy(spec.slate_size), episodes, seed)
    return float(random.mean()), float(optimum.mean())


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("title", WORLDS)
def test_policies_by_learner(title, tmp_path, capsys, tables):
    world, environment = WORLDS[title], title.partition(",")[0]

    def logs(episodes: int, seed: int):
        shares = {"random": 0.5, "greedy": 0.5}
        name = f"{episodes}-{seed}"
        recipe = Recipe(name, environment, episodes, seed, shares, world.overrides)
        return generate(recipe, Folder(str(tmp_path)))

    spec = logs(world.logged, 0).spec
    digits = 1 if spec.world == "interest_evolution" else 4 if spec.user_chooses else 3
    head = [
        f"| {title}: {measure(spec)}, {world.evaluated:,} episodes | logged episodes "
        f"| min of {len(SEEDS)} seeds | median | s to train | rows/s |",
        "|---|---|---|---|---|---|",
    ]
    tables += head
    with capsys.disabled():
        print("", *head, sep="\n")

    def show(name: str, values: list[float], *cost: str) -> None:
        """Print now, as the next learner may take minutes, and again at the end."""
        low, median = (f"{value:,.{digits}f}" for value in (min(values), np.median(values)))
        tables.append(str(Row(name, cost[0] if cost else "", low, median, *cost[1:])))
        with capsys.disabled():
            print(tables[-1], flush=True)

    for name in ("random", "greedy"):
        values = []
        for seed in SEEDS:
            returns = episode_returns(spec, behaviour_policy(name, spec), world.evaluated, seed)
            values.append(figure(spec, returns, seed))
        show(name, values)
    chosen = [name for name in learners_for(spec) if not ONLY or name in ONLY.split(",")]
    cases = [(name, world.logged) for name in chosen]
    cases += [("fitted-q", fewer) for fewer in world.fewer if "fitted-q" in chosen]
    for learner, episodes in cases:
        values, seconds, rows = [], [], 0
        for seed in SEEDS:
            dataset = logs(episodes, seed)
            scorer, report = train(dataset, learner_config(learner), seed)
            returns = episode_returns(spec, ScoringPolicy(scorer), world.evaluated, seed)
            values.append(figure(spec, returns, seed))
            seconds.append(report.train_seconds)
            rows = dataset.rows
        took = float(np.median(seconds))
        show(learner, values, f"{episodes:,}", f"{took:.1f}", f"{rows / took:,.0f}")
    tables += [*map(str, world.published), ""]


@pytest.mark.benchmark
@pytest.mark.parametrize("sensitivity", [0.058, 0.1])
def test_logged_states_of_the_optimum(sensitivity, tmp_path, capsys):
    """Print how rarely logged users are as satisfied as in half the steps of the best policy."""
    overrides, shares = {"sensitivity": sensitivity}, {"random": 0.5, "greedy": 0.5}
    recipe = Recipe("logs", "modified-lts-20-2", 1000, 0, shares, overrides)
    logged = generate(recipe, Folder(str(tmp_path))).read().user[:, 0]
    env = batched_environment(recipe.spec, 1000)
    best = GreedyPolicy(recipe.spec.slate_size, OptimalRule(env))
    seen = [step.observation["user"][:, 0].copy() for step in play(env, best, 1)]
    share = (logged >= np.median(seen)).mean()
    with capsys.disabled():
        print(f"sensitivity {sensitivity}: {100 * share:.1f}% of logged steps")
