"""Plays a policy in a batched world, one step of all users at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import BatchedEnvironment, Observation
from slateflow.policies.base import Policy, Propensities, SessionPolicy, Slates


@dataclass(frozen=True)
class Step:
    """One step of B users: what they saw before, what was shown, and what came of it."""

    observation: Observation
    slates: Slates  # (B, K)
    propensities: Propensities  # (B,)
    rewards: NDArray[np.float64]  # (B,)
    responses: dict[str, NDArray[Any]]  # clicked and the world's response columns, each (B,)
    terminated: NDArray[np.bool_]  # (B,)
    truncated: NDArray[np.bool_]  # (B,)
    alive: NDArray[np.bool_]  # (B,), False where the user's episode has ended before this step


def play(env: BatchedEnvironment[Any], policy: Policy, seed: int) -> Iterator[Step]:
    """Play one episode of every lane.

    The world's numbers and the policy's come from separate streams of `seed`, so that the
    users and candidates are the same for every policy.
    """
    world, choices = np.random.SeedSequence(seed).spawn(2)
    rng = np.random.Generator(np.random.SFC64(choices))
    observation, _ = env.reset(seed=seed_of(world))
    session = policy.begin(env.num_envs) if isinstance(policy, SessionPolicy) else None
    alive = np.ones(env.num_envs, dtype=np.bool_)
    while alive.any():
        slates, propensities = (session or policy).act(observation, rng)
        following, rewards, terminated, truncated, responses = env.step(slates)
        yield Step(
            observation, slates, propensities, rewards, responses, terminated, truncated, alive
        )
        alive = alive & ~(terminated | truncated)
        if session is not None and alive.any():
            session.remember(observation, slates, responses["clicked"], rewards)
        observation = following


def seed_of(sequence: np.random.SeedSequence) -> int:
    """The sequence as one 128-bit integer, for interfaces that take a number."""
    return int.from_bytes(sequence.generate_state(4).tobytes(), "little")
