"""Play a policy in a batched world, one step of all users at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import BatchedEnvironment, Observation
from slateflow.environments.streams import Streams
from slateflow.policies.base import Policy, Propensities, Session, SessionPolicy, Slates


@dataclass(frozen=True)
class Step:
    """One step of the A users whose episodes have not ended: observation, slates and responses."""

    lanes: NDArray[np.intp]  # (A,), numbers of the users
    observation: Observation
    candidates: NDArray[Any]  # as logs hold them: features (A, N, D), or items (A, N)
    slates: Slates  # (A, K)
    propensities: Propensities  # (A,)
    rewards: NDArray[np.float64]  # (A,)
    responses: dict[str, NDArray[Any]]  # clicked and the world's response columns, each (A,)
    terminated: NDArray[np.bool_]  # (A,)
    truncated: NDArray[np.bool_]  # (A,)


def play(env: BatchedEnvironment[Any], policy: Policy, seed: int | Sequence[int]) -> Iterator[Step]:
    """Play one episode of every lane.

    The world's numbers and the policy's come from separate streams of `seed`, so that the
    users and candidates are the same for every policy.

    Args:
        env: The lanes.
        policy: Chooses the slates.
        seed: Several seeds share the lanes out evenly; each gives the rows that it gives alone.
    """
    seeds = [seed] if isinstance(seed, int) else seed
    streams = [np.random.SeedSequence(one).spawn(2) for one in seeds]
    observation, _ = env.reset(seed=[seed_of(world) for world, _ in streams])
    rng = Streams(
        [np.random.Generator(np.random.SFC64(choices)) for _, choices in streams],
        env.num_envs,
        env.common_numbers,
    )
    actor = policy.begin(env.num_envs) if isinstance(policy, SessionPolicy) else policy
    session = actor if isinstance(actor, Session) else None
    while len(env.lanes):
        lanes, candidates = env.lanes, env.logged_candidates
        slates, propensities = actor.act(observation, rng)
        next_observation, rewards, terminated, truncated, responses = env.step_without_reset(slates)
        yield Step(
            lanes, observation, candidates, slates, propensities, rewards, responses, terminated,
            truncated,
        )  # fmt: skip
        if session:
            session.remember(observation, slates, responses["clicked"], rewards)
        if len(env.lanes) < len(lanes):
            stay = np.flatnonzero(~(terminated | truncated))
            rng.keep(lanes[stay])
            if session:
                session.keep(stay)
        observation = next_observation


def seed_of(sequence: np.random.SeedSequence) -> int:
    """The sequence as one 128-bit integer, for interfaces that take an integer seed."""
    return int.from_bytes(sequence.generate_state(4).tobytes(), "little")
