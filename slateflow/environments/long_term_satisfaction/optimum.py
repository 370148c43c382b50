"""The best return that any policy can earn, and the rule that earns it, by dynamic programming."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.long_term_satisfaction.dynamics import (
    Floats,
    initial_exposure,
    log_watch_time_moments,
    next_exposure,
    satisfaction,
)
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.environments.long_term_satisfaction.spec import LongTermSatisfactionSpec
from slateflow.environments.observation import Observation

GRID_POINTS = 401


@dataclass(frozen=True)
class _Values:
    """Expected return of the steps that are left, under the best policy."""

    grid: Floats  # (X,), net positive exposure
    by_steps_left: Floats  # (T + 1, X), before the candidates are drawn


def optimal_return(
    spec: LongTermSatisfactionSpec, exposures: int = GRID_POINTS, clickbaits: int = GRID_POINTS
) -> float | None:
    """Expected return of the policy that knows the user's state and the steps left.

    Args:
        spec: The world.
        exposures: Grid points of net positive exposure.
        clickbaits: Grid points of the clickbait score.

    Returns:
        The optimum; None where the candidates stay for the episode, which this does not solve.
    """
    if not spec.resample_documents:
        return None
    values = _solve(spec, exposures, clickbaits)
    start = initial_exposure(spec, (np.arange(4000) + 0.5) / 4000)  # users start uniformly
    return float(np.mean(np.interp(start, values.grid, values.by_steps_left[-1])))


@dataclass(frozen=True)
class OptimalRule:
    """The rule that earns the optimum: it reads the users' state from the simulator.

    Args:
        env: The users, of a world whose candidates are fresh at every step.
    """

    env: BatchedLongTermSatisfaction

    def __call__(self, observation: Observation) -> NDArray[np.floating]:
        """Expected return (A, N) of the steps left if the candidate is shown first now."""
        spec = self.env.environment_spec
        values = _solve(spec, GRID_POINTS, GRID_POINTS)
        exposure = self.env.exposure[:, None]
        clickbait = observation["candidates"][:, :, 0].astype(np.float64)
        left = spec.time_budget - int(observation["step"][0, 0])  # sessions have one length
        later = _expected_value(spec, values.grid, values.by_steps_left[left - 1])
        following = next_exposure(spec, exposure, clickbait, np.zeros(()))
        return _mean_reward(spec, exposure, clickbait) + np.interp(following, values.grid, later)


@lru_cache(maxsize=8)
def _solve(spec: LongTermSatisfactionSpec, exposures: int, clickbaits: int) -> _Values:
    """Backward induction over the steps left.

    With N fresh candidates, uniform on [0, 1], and only the first place clicked, the value is that
    of the best of N draws: V(x) = E max q(x, c), q(x, c) = E[reward] + E[V(next x)], where the
    expectation of the maximum comes from the distribution of q over c, raised to the N-th power.
    """
    reach = 1 / (1 - spec.memory_discount)  # |exposure| without noise
    noise = spec.innovation_stddev / np.sqrt(1 - spec.memory_discount**2)
    grid = np.linspace(-1, 1, exposures) * (reach + 6 * noise)  # (X,)
    clickbait = (np.arange(clickbaits) + 0.5) / clickbaits  # (C,)
    reward = _mean_reward(spec, grid[:, None], clickbait)  # (X, C)
    following = next_exposure(spec, grid[:, None], clickbait, np.zeros(()))
    rank = np.arange(clickbaits + 1) / clickbaits
    best_of_n = np.diff(rank**spec.num_candidates)  # probability of each order statistic

    values = np.zeros((spec.time_budget + 1, exposures))
    for left in range(spec.time_budget):
        later = _expected_value(spec, grid, values[left])
        q = reward + np.interp(following, grid, later)
        values[left + 1] = np.sort(q, axis=1) @ best_of_n
    return _Values(grid, values)


def _mean_reward(spec: LongTermSatisfactionSpec, exposure: Floats, clickbait: Floats) -> Floats:
    """Mean of the log-normal watch time."""
    location, scale = log_watch_time_moments(spec, satisfaction(spec, exposure), clickbait)
    return np.asarray(np.exp(location + scale**2 / 2))


def _expected_value(spec: LongTermSatisfactionSpec, grid: Floats, value: Floats) -> Floats:
    """The expected value (X,) at exposures on the grid before the step's noise is added."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    moved = np.interp(grid[:, None] + spec.innovation_stddev * nodes, grid, value)
    return np.asarray(moved @ (weights / weights.sum()))
