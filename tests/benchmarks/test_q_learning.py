"""Our learners of values against d3rlpy's, on the same logs in the same run: seconds to a score.

The world is modified-lts-20-2; both have one thread. d3rlpy has a network of our width that reads
the user, the steps left and all candidates, and rates the candidates by their places; it trains for
`SLATEFLOW_BENCHMARK_SECONDS`, and its network plays the world every few seconds. Ours play once, at
the end.

`uv run --isolated --no-project --python 3.11 --with d3rlpy true` puts it into uv's cache; without
it the table has only ours.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slateflow.environments import EnvironmentSpec, Observation
from slateflow.evaluation import episode_returns, optimal_returns
from slateflow.learners import learner_config, train
from slateflow.policies import Policy, RandomPolicy, ScoringPolicy
from slateflow.policies.base import Propensities, Rng, Slates, top_slates
from slateflow.trajectories import Folder, Recipe, generate
from tests.benchmarks.isolated import isolated_python

SECONDS = float(os.environ.get("SLATEFLOW_BENCHMARK_SECONDS", "60"))
EPISODES, EVERY, PLAYED, SCORES = 1000, 5.0, 2000, (0.95, 0.98)
OURS = ("fitted-q", "cql", "iql")
OTHERS = Path(__file__).with_name("q_learning_of_others.py")


@dataclass(frozen=True)
class NetworkPolicy:
    """A Q-network of d3rlpy's: layers of weights and biases, with rectifiers between them."""

    spec: EnvironmentSpec
    layers: tuple[np.ndarray, ...]
    mean: np.ndarray
    deviation: np.ndarray

    def act(self, observation: Observation, rng: Rng) -> tuple[Slates, Propensities]:
        """Show the candidates with the highest values."""
        del rng
        left = self.spec.horizon - observation["step"][:, 0]
        x = inputs(observation["user"], left, observation["candidates"])
        x = (x - self.mean) / self.deviation
        *hidden, weight, bias = self.layers
        for layer in range(0, len(hidden), 2):
            x = np.maximum(x @ hidden[layer].T + hidden[layer + 1], 0.0)
        return top_slates(x @ weight.T + bias, self.spec.slate_size), np.ones(len(x))


def inputs(user: np.ndarray, left: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(R, U + 1 + N D) observations of d3rlpy's network."""
    flat = candidates.reshape(len(candidates), -1)
    return np.concatenate([user, left[:, None], flat], axis=1).astype(np.float32)


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_seconds_to_a_score_beside_d3rlpy(tmp_path, capsys):
    recipe = Recipe("logs", "modified-lts-20-2", EPISODES, 0, {"random": 0.5, "greedy": 0.5})
    dataset, spec = generate(recipe, Folder(str(tmp_path))), recipe.spec

    def returns(policy: Policy) -> float:
        return float(episode_returns(spec, policy, PLAYED, seed=1).mean())

    random, best = returns(RandomPolicy(spec.slate_size)), optimal_returns(spec, PLAYED, seed=1)

    def score(policy: Policy) -> float:
        return (returns(policy) - random) / (float(best.mean()) - random)

    found: dict[str, list[tuple[float, float]]] = {}
    for learner in OURS:
        scorer, report = train(dataset, learner_config(learner), seed=0)
        found[learner] = [(report.train_seconds, score(ScoringPolicy(scorer)))]
    command, rows = isolated_python("d3rlpy"), dataset.read()
    np.savez(
        tmp_path / "logs.npz",
        observations=inputs(rows.user, spec.horizon - rows.step, rows.candidate_features()),
        actions=rows.clicked_candidate(),
        rewards=rows.reward,
        terminals=(rows.terminated | rows.truncated).astype(np.float32),
        candidates=spec.num_candidates,
    )
    if command:
        one = {**os.environ, "OMP_NUM_THREADS": "1"}
        arguments = [str(OTHERS), str(tmp_path), str(SECONDS), str(EVERY)]
        subprocess.run([*command, *arguments], check=True, env=one, capture_output=True)
    for path in sorted(tmp_path.glob("*-*-*.npz")):
        with np.load(path) as stored:
            layers = tuple(stored[name] for name in stored.files if name.startswith("arr_"))
            policy = NetworkPolicy(spec, layers, stored["mean"], stored["deviation"])
            name = "d3rlpy, " + path.stem.rpartition("-")[0].replace("-", ", ", 1)
            found.setdefault(name, []).append((float(stored["seconds"]), score(policy)))
    lines = [
        "",
        f"modified-lts-20-2, {EPISODES:,} episodes; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} processors",
        "| learner | s to 0.95 | s to 0.98 | best score | after s | score at the end | after s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, points in found.items():
        first = [min((s for s, value in points if value >= goal), default=None) for goal in SCORES]
        told = " | ".join("never" if s is None else f"{s:.1f}" for s in first)
        when, highest = max(points, key=lambda point: point[1])
        ended, last = points[-1]
        lines.append(f"| {name} | {told} | {highest:.3f} | {when:.0f} | {last:.3f} | {ended:.0f} |")
    if not command:
        lines.append("d3rlpy is not in uv's cache; see this file's beginning")
    with capsys.disabled():
        print(*lines, sep="\n")
    assert all(np.isfinite(value) for points in found.values() for _, value in points)
