"""Intervals of single decisions with skewed rewards, compared with the usual ones by Student's t.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs of each size and kind.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.contributions import Contributions, rare, weight_of_one
from slateflow.evaluation.off_policy.overlap import CheckedWeights, Overlap
from slateflow.evaluation.off_policy.weighted_rows import WeightedRows

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "100"))
SIZES = (2_000, 6_000, 20_000)
KINDS, ITEMS, FOLDS, WORLDS = 2, 20, 5, 20
"""Kinds of users, items, folds of the model, and logs of which each world has one."""

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Array], Array]
"""Draws rewards (R,) with means (R,)."""


def log_normal(spread: float, share: float = 1.0) -> Draw:
    """Log-normal rewards, of which only a share is not 0."""

    def draw(rng: np.random.Generator, mean: Array) -> Array:
        size = np.exp(rng.normal(-(spread**2) / 2, spread, len(mean)))
        return np.asarray(mean * size * (rng.random(len(mean)) < share) / share)

    return draw


def pareto(alpha: float) -> Draw:
    """Pareto rewards with tail index `alpha`."""
    return lambda rng, mean: mean * (1 + rng.pareto(alpha, len(mean))) * (alpha - 1) / alpha


def clicks(share: float) -> Draw:
    """Rewards of one size, in about a share of the decisions."""
    return lambda rng, mean: (rng.random(len(mean)) < share * mean) / share


COSTS = "costs, log-normal, σ = 1"
REWARDS: dict[str, Draw] = {
    "log-normal, σ = 0.5": log_normal(0.5),
    "log-normal, σ = 1": log_normal(1.0),
    "log-normal, σ = 1.5": log_normal(1.5),
    "80% are 0, the others log-normal, σ = 1": log_normal(1.0, 0.2),
    "70% are 0, the others log-normal, σ = 1.5": log_normal(1.5, 0.3),
    "Pareto, α = 2.5": pareto(2.5),
    "Pareto, α = 3.5": pareto(3.5),
    "exponential": lambda rng, mean: rng.exponential(mean),
    "gamma, shape 0.3": lambda rng, mean: rng.gamma(0.3, mean / 0.3),
    COSTS: lambda rng, mean: -log_normal(1.0)(rng, mean),
    "clicks, 5%": clicks(0.05),
    "clicks, 1%": clicks(0.01),
}


@dataclass(frozen=True)
class World:
    """Mean rewards, and probabilities of the logging policy and of others, all (KINDS, ITEMS)."""

    mean: Array
    logging: Array
    policies: dict[str, Array]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> World:
        """A logging policy that shows some items often and all sometimes, and three others."""
        mean = rng.gamma(8, 1 / 8, (KINDS, ITEMS))
        logging = 0.9 * rng.dirichlet(np.full(ITEMS, 0.7), KINDS) + 0.1 / ITEMS
        all_alike = np.full((KINDS, ITEMS), 1 / ITEMS)
        seen_best = (mean + rng.normal(0, 0.02, mean.shape) / np.sqrt(logging)).argmax(axis=1)
        greedy = np.eye(ITEMS)[seen_best]
        policies = {"random": all_alike, "greedy": greedy, "mixed": 0.7 * greedy + 0.3 * all_alike}
        return cls(mean, logging, {**policies, "half": (logging + all_alike) / 2})


def judged(
    world: World, draw: Draw, rows: int, rng: np.random.Generator
) -> dict[str, tuple[Contributions, bool]]:
    """Contributions of each policy from a log, and whether the gate refuses it."""
    kind = rng.integers(0, KINDS, rows)
    below = np.cumsum(world.logging, axis=1)[kind]
    item = np.minimum((rng.random(rows)[:, None] > below).sum(axis=1), ITEMS - 1)
    reward = draw(rng, world.mean[kind, item])
    table, fold = means(kind, item, reward), np.arange(rows) % FOLDS
    found = {}
    for name, policy in world.policies.items():
        factor = 1 / world.logging[kind, item]
        expected = np.einsum("gk,gkf->gf", policy, table)[kind, fold]
        weighted = WeightedRows(
            policy[kind, item] * factor,
            reward,
            table[kind, item, fold],
            expected,
            float(policy.max()) * weight_of_one(factor),
        )
        overlap = Overlap.of_weights(
            weighted.weight,
            weighted.weight * reward,
            0.0,
            CheckedWeights(
                Contributions(weighted.weight), largest=float(policy.max() * factor.max())
            ),
            skewness=weighted.skewness,
            events=rare(reward),
        )
        found[name] = weighted.dr(), overlap.refusal() is not None
    return found


def means(kind: NDArray[np.intp], item: NDArray[np.intp], reward: Array) -> Array:
    """(KINDS, ITEMS, FOLDS) mean rewards by the other folds, shrunk a little to that of all."""
    fold = np.arange(len(reward)) % FOLDS
    cell = (kind * ITEMS + item) * FOLDS + fold
    count, total = (
        np.bincount(cell, weights, KINDS * ITEMS * FOLDS).reshape(KINDS, ITEMS, FOLDS)
        for weights in (None, reward)
    )
    others, of_others = (
        one.sum(axis=2, keepdims=True) - one for one in (count.astype(np.float64), total)
    )
    return np.asarray((of_others + FOLDS * reward.mean()) / (others + FOLDS))


def sides(difference: Contributions, truth: float) -> int:
    """0 if the interval contains the truth, 1 if it is above, −1 below."""
    low, high = difference.interval()
    return int(low > truth) - int(high < truth)


def of_kind(name: str, rows: int) -> list[tuple[bool, int, int]]:
    """The refusal of a policy, if any, and the sides of the usual interval and of ours."""
    return list(_of_kind(name, rows))


def _of_kind(name: str, rows: int) -> Iterator[tuple[bool, int, int]]:
    sign, number = -1.0 if name == COSTS else 1.0, list(REWARDS).index(name)
    for log in range(LOGS):
        world = World.drawn(np.random.default_rng([log // WORLDS, 7]))
        found = judged(world, REWARDS[name], rows, np.random.default_rng([log, number, rows]))
        values = {
            name: sign * float((policy * world.mean).sum()) / KINDS
            for name, policy in world.policies.items()
        }
        random, refused_too = found.pop("random")
        yield refused_too, *_usual_and_ours(random, values["random"])
        for policy, (one, refused) in found.items():
            uplift = values[policy] - values["random"]
            yield refused or refused_too, *_usual_and_ours(one - random, uplift)


def _usual_and_ours(one: Contributions, truth: float) -> tuple[int, int]:
    return sides(Contributions(one.sums), truth), sides(one, truth)


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
def test_intervals_of_skewed_rewards(capsys):
    """Print how often intervals that pass the gate hold, and on which side they miss."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        waiting = {
            name: [pool.submit(partial(of_kind, name), rows) for rows in SIZES] for name in REWARDS
        }
        found = {
            name: np.array([row for one in parts for row in one.result()], np.int64)
            for name, parts in waiting.items()
        }
    with capsys.disabled():
        print(f"\n{LOGS} logs each of {', '.join(f'{rows:,}' for rows in SIZES)} rows")
        print(f"{'rewards':42} refused  usual   held  too high  too low")
        for name, every in [*found.items(), ("all", np.concatenate(list(found.values())))]:
            given = every[every[:, 0] == 0]
            usual, ours = given[:, 1], given[:, 2]
            print(
                f"{name:42} {every[:, 0].mean():7.2f} {(usual == 0).mean():6.3f} "
                f"{(ours == 0).mean():6.3f} {(ours > 0).mean():9.3f} {(ours < 0).mean():8.3f}"
            )
