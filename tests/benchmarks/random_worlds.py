"""Random worlds and logs, for learners that were not tuned to them.

Ranges and seeds were fixed before any learner saw one of these worlds. Other seeds give other
worlds of the same kind.

Long-term satisfaction: 3 to 60 candidates and 20 to 240 steps (log-uniform), slates of 1 to 5,
sensitivity .005 to .2, innovation .01 to .3 and both noises .1 to 1.5 (log-uniform), memory .3 to
.95, chocolate's mean 3 to 6, kale's mean 0 to 2 less, satisfaction observed in every other world.

Interest evolution: 5 to 20 candidates, slates of 1 to 4, 10, 20 or 30 clusters, sessions of 60 to
300 minutes, no-click mass .5 to 3, the user's factor 0, 1 or uniform and the quality's 1 less that,
0 to .35 minutes given back per minute.

Interest exploration: 5 to 20 candidates, slates of 1 to 4, 2 to 4 types of users, 2 to 5 topics,
affinities 0 to 1, qualities 0 to 1, deviations .05 to .3, no-click mass 1 to 8, 50 to 300 steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from slateflow.trajectories import Recipe

Rng = np.random.Generator

MIXTURES: tuple[dict[str, Any], ...] = (
    {"random": 0.5, "greedy": 0.5},
    {"random": 1.0},
    {"random": 0.1, "greedy": 0.45, "opposite": 0.45},
    {
        "explorer": {"share": 0.5, "scorer": "greedy", "epsilon": 0.2},
        "contrarian": {"share": 0.5, "scorer": "opposite", "epsilon": 0.2},
    },
    {"softmax": {"share": 0.8, "scorer": "greedy", "temperature": 0.5}, "random": 0.2},
)
"""Mixtures of logging policies; each world takes one of these."""

EPISODES = int(os.environ.get("SLATEFLOW_BENCHMARK_EPISODES", "1000"))
"""Logged episodes in each world."""


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _whole(rng: Rng, low: float, high: float) -> int:
    return round(_log_uniform(rng, low, high))


def _offer(rng: Rng, candidates: int, slate: int) -> dict[str, int]:
    return {
        "num_candidates": candidates,
        "slate_size": min(candidates, int(rng.integers(1, slate + 1))),
    }


def long_term_satisfaction(rng: Rng) -> tuple[str, dict[str, Any]]:
    """Preset and parameters of a world."""
    choc_mean = float(rng.uniform(3, 6))
    return "modified-lts-20-2", {
        **_offer(rng, _whole(rng, 3, 60), 5),
        "sensitivity": _log_uniform(rng, 0.005, 0.2),
        "memory_discount": float(rng.uniform(0.3, 0.95)),
        "choc_mean": choc_mean,
        "kale_mean": choc_mean - float(rng.uniform(0, 2)),
        "choc_stddev": _log_uniform(rng, 0.1, 1.5),
        "kale_stddev": _log_uniform(rng, 0.1, 1.5),
        "innovation_stddev": _log_uniform(rng, 0.01, 0.3),
        "time_budget": _whole(rng, 20, 240),
        "satisfaction_observed": bool(rng.integers(2)),
    }


def interest_evolution(rng: Rng) -> tuple[str, dict[str, Any]]:
    """Preset and parameters of a world."""
    factor = float((0.0, 1.0, rng.uniform())[rng.integers(3)])
    return "interest-evolution", {
        **_offer(rng, int(rng.integers(5, 21)), 4),
        "num_features": int(rng.integers(1, 4)) * 10,
        "time_budget": float(rng.uniform(60, 300)),
        "no_click_mass": float(rng.uniform(0.5, 3)),
        "user_quality_factor": factor,
        "document_quality_factor": 1 - factor,
        "user_update_alpha": float(rng.uniform(0, 0.35)),
    }


def interest_exploration(rng: Rng) -> tuple[str, dict[str, Any]]:
    """Preset and parameters of a world."""
    types, topics = int(rng.integers(2, 5)), int(rng.integers(2, 6))
    return "interest-exploration", {
        **_offer(rng, int(rng.integers(5, 21)), 4),
        "user_type_distribution": _shares(rng, types),
        "user_document_mean_affinity_matrix": rng.uniform(size=(types, topics)).tolist(),
        "user_document_stddev_affinity_matrix": rng.uniform(
            0.05, 0.3, size=(types, topics)
        ).tolist(),
        "no_click_mass": float(rng.uniform(1, 8)),
        "topic_distribution": _shares(rng, topics),
        "topic_quality_mean": rng.uniform(size=topics).tolist(),
        "topic_quality_stddev": rng.uniform(0.05, 0.3, size=topics).tolist(),
        "step_limit": int(rng.integers(50, 301)),
    }


def _shares(rng: Rng, count: int) -> list[float]:
    shares = rng.dirichlet(np.full(count, 3.0))
    return [*shares[:-1].tolist(), float(1 - shares[:-1].sum())]


FAMILIES: dict[str, tuple[Callable[[Rng], tuple[str, dict[str, Any]]], int]] = {
    "long-term satisfaction": (long_term_satisfaction, 40),
    "interest evolution": (interest_evolution, 20),
    "interest exploration": (interest_exploration, 20),
}
"""For each family the function that draws a world, and the number of worlds."""


def drawn_recipe(family: str, number: int, seed: int) -> Recipe:
    """The recipe of a world of a family, by number and seed."""
    draw, _ = FAMILIES[family]
    place = list(FAMILIES).index(family)
    rng = np.random.Generator(np.random.SFC64([seed, place, number]))
    environment, parameters = draw(rng)
    policies = MIXTURES[int(rng.integers(len(MIXTURES)))]
    name = f"{family.replace(' ', '-')}-{number}"
    return Recipe(name, environment, EPISODES, seed, policies, parameters)
