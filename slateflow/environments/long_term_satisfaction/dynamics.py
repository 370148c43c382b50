"""The arithmetic of RecSim's long-term satisfaction, for any number of users at once.

Pure functions of state and draws, in the order of operations of RecSim 0.2.4 (Ie et al. 2019,
"RecSim: A Configurable Simulation Platform for Recommender Systems"), so that a replay of
RecSim's own draws gives RecSim's own numbers. Arrays are (B,), one entry per user.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.long_term_satisfaction.spec import LongTermSatisfactionSpec

Floats = NDArray[np.float64]

MAX_WATCH_TIME = 100.0
"""RecSim clips the engagement that it shows, but not the reward."""


def initial_exposure(spec: LongTermSatisfactionSpec, uniform: Floats) -> Floats:
    """Net positive exposure of new users from uniform draws in [0, 1)."""
    return (uniform - 0.5) * (1 / (1.0 - spec.memory_discount))


def satisfaction(spec: LongTermSatisfactionSpec, exposure: Floats) -> Floats:
    """Satisfaction in (0, 1): the logistic function of sensitivity × exposure."""
    return np.asarray(1 / (1.0 + np.exp(-spec.sensitivity * exposure)))


def watch_time(
    spec: LongTermSatisfactionSpec, satisfied: Floats, clickbait: Floats, normal: Floats
) -> Floats:
    """Unclipped log-normal engagement with a clicked document.

    Args:
        spec: The world's parameters.
        satisfied: Satisfaction before the click.
        clickbait: Clickbait score of the clicked document, in [0, 1].
        normal: Standard normal draws.
    """
    location, scale = log_watch_time_moments(spec, satisfied, clickbait)
    return np.asarray(np.exp(location + scale * normal))


def log_watch_time_moments(
    spec: LongTermSatisfactionSpec, satisfied: Floats, clickbait: Floats
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the logarithm of the watch time."""
    location = clickbait * spec.choc_mean + (1 - clickbait) * spec.kale_mean
    scale = clickbait * spec.choc_stddev + (1 - clickbait) * spec.kale_stddev
    return location * satisfied, scale


def next_exposure(
    spec: LongTermSatisfactionSpec, exposure: Floats, clickbait: Floats, normal: Floats
) -> Floats:
    """Net positive exposure after a click: chocolate (score 1) lowers it, kale raises it."""
    innovation = spec.innovation_stddev * normal
    return spec.memory_discount * exposure - 2.0 * (clickbait - 0.5) + innovation


def responses_of_reward(reward: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """`clicked` and the response columns (R,) of logs that kept only the reward (R,).

    The first place is always clicked, and the watch time is the reward, clipped.
    """
    return {"clicked": np.zeros(len(reward)), "watch_time": np.minimum(reward, MAX_WATCH_TIME)}
