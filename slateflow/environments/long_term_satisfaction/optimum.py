"""The best return that any policy can have, by dynamic programming."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from slateflow.environments.long_term_satisfaction.dynamics import (
    initial_exposure,
    log_watch_time_moments,
    satisfaction,
)
from slateflow.environments.long_term_satisfaction.spec import LongTermSatisfactionSpec


@lru_cache(maxsize=8)
def optimal_return(
    spec: LongTermSatisfactionSpec, exposures: int = 401, clickbaits: int = 401
) -> float | None:
    """Expected return of the policy that knows the user's state and the steps left.

    Backward induction over the steps left. With N fresh candidates, uniform on [0, 1], and only
    the first place clicked, the value is that of the best of N draws:
    V(x) = E max q(x, c), q(x, c) = E[reward] + E[V(next x)], where the expectation of the
    maximum comes from the distribution of q over c, raised to the N-th power.

    Args:
        spec: The world.
        exposures: Grid points of net positive exposure.
        clickbaits: Grid points of the clickbait score.

    Returns:
        The optimum; None where the candidates stay for the episode, which this does not solve.
    """
    if not spec.resample_documents:
        return None
    reach = 1 / (1 - spec.memory_discount)  # |exposure| without noise
    noise = spec.innovation_stddev / np.sqrt(1 - spec.memory_discount**2)
    grid = np.linspace(-1, 1, exposures) * (reach + 6 * noise)  # (X,)
    clickbait = (np.arange(clickbaits) + 0.5) / clickbaits  # (C,)
    location, scale = log_watch_time_moments(
        spec, satisfaction(spec, grid)[:, None], clickbait[None, :]
    )
    reward = np.exp(location + scale**2 / 2)  # (X, C), mean of the log-normal
    centre = spec.memory_discount * grid[:, None] - 2 * (clickbait[None, :] - 0.5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    weights /= weights.sum()
    rank = np.arange(clickbaits + 1) / clickbaits
    best_of_n = np.diff(rank**spec.num_candidates)  # probability of each order statistic

    value = np.zeros(exposures)
    for _ in range(spec.time_budget):
        smoothed = sum(
            weight * np.interp(grid + spec.innovation_stddev * node, grid, value)
            for node, weight in zip(nodes, weights, strict=True)
        )
        q = reward + np.interp(centre, grid, smoothed)
        value = np.sort(q, axis=1) @ best_of_n
    start = initial_exposure(spec, (np.arange(4000) + 0.5) / 4000)  # users start uniformly
    return float(np.mean(np.interp(start, grid, value)))
