"""Episode returns of a policy, on users that are the same for every policy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, batched_environment
from slateflow.errors import InputError
from slateflow.policies import Policy
from slateflow.policies.play import Step, play, seed_of

EVALUATION_STREAM = 0xE7A1
"""Keeps the users of an evaluation apart from those of a dataset with the same seed."""

BLOCK_EPISODES = 1000


def play_blocks(
    spec: EnvironmentSpec, policy: Policy, episodes: int, seed: int
) -> Iterator[list[Step]]:
    """The steps of `episodes` episodes, a block of users at a time.

    Episode i meets the same user, candidates and noise whatever the policy is.
    """
    if episodes < 1:
        raise InputError(f"episodes: expected at least 1, got {episodes}")
    for block in count():
        lanes = min(BLOCK_EPISODES, episodes - block * BLOCK_EPISODES)
        if lanes <= 0:
            return
        env = batched_environment(spec, lanes)
        sequence = np.random.SeedSequence(seed, spawn_key=(EVALUATION_STREAM, block))
        yield list(play(env, policy, seed_of(sequence)))


def episode_returns(
    spec: EnvironmentSpec, policy: Policy, episodes: int, seed: int
) -> NDArray[np.float64]:
    """Undiscounted return of each episode, (episodes,)."""
    returns = []
    for steps in play_blocks(spec, policy, episodes, seed):
        of_block = np.zeros(len(steps[0].lanes))
        for step in steps:
            of_block[step.lanes] += step.rewards
        returns.append(of_block)
    return np.concatenate(returns)


def standard_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean; 0 for a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
