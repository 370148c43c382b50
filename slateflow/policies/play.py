"""Plays a policy in a batched world, one step of all users at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import BatchedEnvironment, Observation
from slateflow.policies.base import Policy, Propensities, Session, SessionPolicy, Slates


@dataclass(frozen=True)
class Step:
    """One step of B users: what they saw before, what was shown, and what came of it."""

    observation: Observation
    documents: NDArray[Any]  # (B, N, …), of which the world's `features` makes the candidates
    slates: Slates  # (B, K)
    propensities: Propensities  # (B,)
    rewards: NDArray[np.float64]  # (B,)
    responses: dict[str, NDArray[Any]]  # clicked and the world's response columns, each (B,)
    terminated: NDArray[np.bool_]  # (B,)
    truncated: NDArray[np.bool_]  # (B,)
    alive: NDArray[np.bool_]  # (B,), False where the user's episode has ended before this step


def play(env: BatchedEnvironment[Any], policy: Policy, seed: int | Sequence[int]) -> Iterator[Step]:
    """Play one episode of every lane.

    The world's numbers and the policy's come from separate streams of `seed`, so that the
    users and candidates are the same for every policy.

    Args:
        env: The lanes.
        policy: What chooses the slates.
        seed: Several seeds share the lanes out evenly; each gives what it would give alone.
    """
    seeds = [seed] if isinstance(seed, int) else seed
    streams = [np.random.SeedSequence(one).spawn(2) for one in seeds]
    observation, _ = env.reset(seed=[seed_of(world) for world, _ in streams])
    share = env.num_envs // len(seeds)
    actors = [
        _Actor(
            policy.begin(share) if isinstance(policy, SessionPolicy) else policy,
            np.random.Generator(np.random.SFC64(choices)),
            slice(number * share, (number + 1) * share),
        )
        for number, (_, choices) in enumerate(streams)
    ]
    sessions = [(actor, actor.policy) for actor in actors if isinstance(actor.policy, Session)]
    alive = np.ones(env.num_envs, dtype=np.bool_)
    while alive.any():
        acts = [actor.act(observation) for actor in actors]
        slates = np.concatenate([slates for slates, _ in acts])
        propensities = np.concatenate([propensities for _, propensities in acts])
        documents = env.documents
        following, rewards, terminated, truncated, responses = env.step(slates)
        yield Step(
            observation, documents, slates, propensities, rewards, responses, terminated,
            truncated, alive,
        )  # fmt: skip
        alive = alive & ~(terminated | truncated)
        if alive.any():
            for actor, session in sessions:
                lanes = actor.lanes
                session.remember(
                    actor.seen(observation),
                    slates[lanes],
                    responses["clicked"][lanes],
                    rewards[lanes],
                )
        observation = following


@dataclass(frozen=True)
class _Actor:
    """A policy in the share of the lanes that one seed has."""

    policy: Policy
    rng: np.random.Generator
    lanes: slice

    def act(self, observation: Observation) -> tuple[Slates, Propensities]:
        return self.policy.act(self.seen(observation), self.rng)

    def seen(self, observation: Observation) -> Observation:
        return {
            "user": observation["user"][self.lanes],
            "candidates": observation["candidates"][self.lanes],
            "step": observation["step"][self.lanes],
        }


def seed_of(sequence: np.random.SeedSequence) -> int:
    """The sequence as one 128-bit integer, for interfaces that take a number."""
    return int.from_bytes(sequence.generate_state(4).tobytes(), "little")
