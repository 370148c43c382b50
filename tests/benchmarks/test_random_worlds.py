"""The pipeline with its defaults in random worlds: is the winner good there, too?

`SLATEFLOW_BENCHMARK_SEED` draws other worlds, `SLATEFLOW_BENCHMARK_WORLDS` has numbers of worlds,
as in `3,21`, `SLATEFLOW_BENCHMARK_LEARNERS` some learners, and `SLATEFLOW_BENCHMARK_EPISODES` is
the size of the logs.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slateflow.environments import EnvironmentSpec, batched_environment, optimal_return
from slateflow.environments.long_term_satisfaction.dynamics import log_watch_time_moments
from slateflow.errors import InputError
from slateflow.evaluation import episode_returns, played_verdict
from slateflow.evaluation.verdict import compare
from slateflow.learners import learner_config, learners_for, train
from slateflow.policies import (
    AnyScorer,
    Behaviour,
    Policy,
    RandomPolicy,
    ScoringPolicy,
    behaviour_policy,
)
from slateflow.policies.play import play
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from tests.benchmarks.random_worlds import FAMILIES, drawn_recipe

SEED = int(os.environ.get("SLATEFLOW_BENCHMARK_SEED", "2026"))
WORLDS = os.environ.get("SLATEFLOW_BENCHMARK_WORLDS", "")
ONLY = os.environ.get("SLATEFLOW_BENCHMARK_LEARNERS", "")
PROCESSES = int(os.environ.get("SLATEFLOW_BENCHMARK_PROCESSES", str(os.cpu_count())))
PLAYED = 2000
"""Episodes for choosing the winner, and as many for measuring it."""


KNOWN_RULES = {"interest evolution": {"quality": Behaviour(scorer="quality")}}
"""Rules by hidden facts; in interest exploration greedy ranks by quality."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one world.

    Attributes:
        number: Number of the world.
        described: Short description of its parameters.
        winner: The learner that won, or none.
        figures: By learner the score, or the gain over the best fixed rule in percent.
        lost: The winner's paired difference from the best of fixed rules and logging policies, in
            standard errors and in the unit of `figures`, where it is negative; 0 without a winner.
        rival: The best of these policies.
        refused: Learners that refuse these logs, with reasons.
    """

    number: int
    described: str
    winner: str
    figures: dict[str, float]
    lost: tuple[float, float]
    rival: str
    refused: dict[str, str]

    @property
    def figure(self) -> float:
        """The winner's; without a winner that of random, or no gain."""
        return self.figures.get(self.winner, 0.0)


def measured_returns(spec: EnvironmentSpec, policy: Policy, seed: int) -> np.ndarray:
    """Returns (E,) of a policy; in long-term satisfaction with expected rewards.

    Its rewards are log-normal, with more noise than policies differ by. Users, their offers and
    their behaviour remain as drawn.
    """
    if spec.world != "long_term_satisfaction":
        return episode_returns(spec, policy, PLAYED, seed)
    env, twin = batched_environment(spec, PLAYED), batched_environment(spec, PLAYED)
    world = np.random.SeedSequence(seed).spawn(2)[0].generate_state(4).tobytes()
    twin.reset(seed=[int.from_bytes(world, "little")])
    satisfied, total = twin._satisfaction, np.zeros(PLAYED)
    for step in play(env, policy, seed):
        first = step.observation["candidates"][np.arange(PLAYED), step.slates[:, 0], 0]
        location, scale = log_watch_time_moments(spec, satisfied, first.astype(np.float64))
        total += np.exp(location + scale**2 / 2)
        satisfied = env._satisfaction
    return total


def trained(dataset: Dataset, seed: int) -> tuple[dict[str, AnyScorer], dict[str, str]]:
    """Scorers of the learners that learn with defaults, and the reasons of those that refuse."""
    scorers: dict[str, AnyScorer] = {}
    refused: dict[str, str] = {}
    for learner in learners_for(dataset.spec):
        if ONLY and learner not in ONLY.split(","):
            continue
        try:
            scorers[learner], _ = train(dataset, learner_config(learner), seed)
        except InputError as error:
            refused[learner] = str(error)
    return scorers, refused


def chosen(recipe: Recipe, scorers: dict[str, AnyScorer], rules: dict[str, Policy]) -> str:
    """The winner that the pipeline would choose; "none" without one."""
    spec = recipe.spec

    def played(policy: Policy) -> np.ndarray:
        return episode_returns(spec, policy, PLAYED, recipe.seed)

    verdict = played_verdict(
        played(RandomPolicy(spec.slate_size)),
        {learner: played(ScoringPolicy(scorer)) for learner, scorer in scorers.items()},
        logged={name: played(rules[name]) for name in recipe.behaviours},
    )
    return verdict.winner.learner if verdict.winner else "none"


def run_world(family: str, number: int, folder: Path) -> Outcome:
    """Log, train with defaults, let the pipeline choose, and measure its choice."""
    recipe = drawn_recipe(family, number, SEED)
    dataset, spec = generate(recipe, Folder(str(folder))), recipe.spec
    scorers, refused = trained(dataset, recipe.seed)
    rules: dict[str, Policy] = {
        name: behaviour_policy(behaviour, spec)
        for name, behaviour in {
            **{name: name for name in ("random", "greedy", "opposite")},
            **KNOWN_RULES.get(family, {}),
            **recipe.behaviours,
        }.items()
    }
    winner = chosen(recipe, scorers, rules)
    ruled = {name: measured_returns(spec, policy, SEED + 1) for name, policy in rules.items()}
    learnt = {
        name: measured_returns(spec, ScoringPolicy(scorer), SEED + 1)
        for name, scorer in scorers.items()
    }
    rival = max(ruled, key=lambda name: float(ruled[name].mean()))
    base, optimum = float(ruled["random"].mean()), optimal_return(spec)

    def figure(returns: np.ndarray) -> float:
        mean = float(returns.mean())
        if optimum is not None:
            return (mean - base) / (optimum - base)
        return 100 * (mean / float(ruled[rival].mean()) - 1)

    found = compare(learnt.get(winner, ruled[rival]), ruled[rival])
    error = (found.ci[1] - found.ci[0]) / 2 / 1.96
    gap = figure(learnt.get(winner, ruled[rival])) - figure(ruled[rival])
    return Outcome(
        number,
        ", ".join(f"{key} {_short(value)}" for key, value in recipe.parameters.items())
        + f"; logged by {', '.join(recipe.policies)}",
        winner,
        {name: figure(returns) for name, returns in learnt.items()}
        | {f"({rival})": figure(ruled[rival])},
        (found.uplift / error, gap) if error and found.uplift < 0 else (0.0, 0.0),
        rival,
        refused,
    )


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(map(_short, value)) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@pytest.mark.benchmark
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("family", FAMILIES)
def test_random_worlds(family, tmp_path, capsys):
    """Print a line per world and the counts; only that all worlds ran is asserted."""
    numbers = [int(one) for one in WORLDS.split(",")] if WORLDS else range(FAMILIES[family][1])
    count = len(numbers)
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(run_world, family, number, tmp_path) for number in numbers]
        outcomes = []
        for future in running:
            one = future.result()
            outcomes.append(one)
            with capsys.disabled():
                figures = ", ".join(f"{name} {value:.3f}" for name, value in one.figures.items())
                print(f"{one.number:3} {one.winner}: {figures}; {one.described}", flush=True)
                for learner, reason in one.refused.items():
                    print(f"    {learner} refused: {reason}")
                if one.lost[0] < -1.96:
                    errors, gap = one.lost
                    print(f"    below {one.rival}: {gap:.4f}, {errors:.1f} standard errors")
    assert len(outcomes) == count
    figures = np.array([one.figure for one in outcomes])
    below = [one.lost[1] for one in outcomes if one.lost[0] < -1.96]
    with capsys.disabled():
        print(f"\n{family}, {count} worlds of seed {SEED}: winner's figure, sorted")
        print(np.array2string(np.sort(figures), precision=3, max_line_width=88))
        print(f"winner below the best rule by more than 1.96 standard errors: {len(below)} worlds")
        if below:
            print(f"there it loses at most {-min(below):.4f}")
        print(f"no winner: {sum(one.winner == 'none' for one in outcomes)} worlds")
        for learner in sorted({name for one in outcomes for name in one.figures}):
            values = np.array([one.figures[learner] for one in outcomes if learner in one.figures])
            if learner.startswith("("):
                continue
            shares = ", ".join(
                f"{(values >= least).sum()} of {len(values)} at least {least:g}"
                for least in (0.98, 0.95, 0.9, 0.0)
            )
            print(
                f"{learner:10} median {np.median(values):.3f}, least {values.min():.3f}; {shares}"
            )
