"""Episode returns of a policy, on users that are the same for every policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import (
    BatchedEnvironment,
    EnvironmentSpec,
    batched_environment,
    optimal_return,
    world_of,
)
from slateflow.errors import InputError
from slateflow.policies import GreedyPolicy, Policy
from slateflow.policies.play import play, seed_of
from slateflow.progress import Progress, unwatched
from slateflow.records import resolve

EVALUATION_STREAM = 0xE7A1
"""Separates the users of an evaluation from those of a dataset with the same seed."""

BLOCK_EPISODES = 1000
"""Episodes that are played at once, with their own stream of random numbers."""

Returns = NDArray[np.float64]  # (E,), of the same users in the same order for every policy


class Earned(NamedTuple):
    """Rewards of a step, without its observations, which would need many times the memory."""

    lanes: NDArray[np.intp]  # (B,) users of the block whose episodes have not ended
    rewards: NDArray[np.float64]  # (B,)


def play_blocks(
    spec: EnvironmentSpec,
    policy: Policy | Callable[[BatchedEnvironment[Any]], Policy],
    episodes: int,
    seed: int,
) -> Iterator[list[Earned]]:
    """The rewards of `episodes` episodes, step by step, one block of users at a time.

    Episode i meets the same user, candidates and noise under every policy.

    Args:
        spec: The world.
        policy: A policy, or a function that makes a policy for the simulator of a block, whose
            hidden state it may read.
        episodes: Number of episodes.
        seed: Seed of the users.

    Raises:
        InputError: There is no episode to play.
    """
    if episodes < 1:
        raise InputError(f"episodes: expected at least 1, got {episodes}")
    for block in count():
        lanes = min(BLOCK_EPISODES, episodes - block * BLOCK_EPISODES)
        if lanes <= 0:
            return
        env = batched_environment(spec, lanes)
        sequence = np.random.SeedSequence(seed, spawn_key=(EVALUATION_STREAM, block))
        steps = play(env, policy(env) if callable(policy) else policy, seed_of(sequence))
        yield [Earned(step.lanes, step.rewards) for step in steps]


def episode_returns(
    spec: EnvironmentSpec,
    policy: Policy | Callable[[BatchedEnvironment[Any]], Policy],
    episodes: int,
    seed: int,
    progress: Progress = unwatched,
) -> Returns:
    """Undiscounted returns (episodes,); see `play_blocks`.

    `progress` is called with the numbers of played and of all episodes.
    """
    returns, played = [], 0
    for steps in play_blocks(spec, policy, episodes, seed):
        of_block = np.zeros(len(steps[0].lanes))
        for step in steps:
            of_block[step.lanes] += step.rewards
        returns.append(of_block)
        played += len(of_block)
        progress(played, episodes)
    return np.concatenate(returns)


def optimal_returns(
    spec: EnvironmentSpec, episodes: int, seed: int, progress: Progress = unwatched
) -> Returns | None:
    """Return of each episode under the best policy, on the users of `episode_returns`.

    Where the best policy is not known, but what it earns, each return is that expectation.

    Returns:
        (episodes,); None where the optimum is unknown.
    """
    expected = optimal_return(spec)
    if expected is None:
        return None
    rule = resolve(world_of(spec).optimal_rule)
    if rule is None:
        return np.full(episodes, expected)
    return episode_returns(
        spec, lambda env: GreedyPolicy(spec.slate_size, rule(env)), episodes, seed, progress
    )


def returns_of(
    name: str,
    spec: EnvironmentSpec,
    policy: Policy | None,
    episodes: int,
    seed: int,
    progress: Progress,
) -> Returns | None:
    """Worker entry point: `episode_returns` of a policy, or `optimal_returns` without one.

    Args:
        name: Name under which progress is shown.
        spec: The world.
        policy: Chooses the slates; None for the best possible policy.
        episodes: Number of episodes.
        seed: Seed of the users.
        progress: Called with the numbers of played and of all episodes.
    """
    if policy is not None:
        return episode_returns(spec, policy, episodes, seed, progress)
    optimum = optimal_returns(spec, episodes, seed, progress)
    progress(episodes, episodes)
    return optimum


def standard_error(values: Returns) -> float:
    """Standard error of the mean; 0 for a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
