"""Blocks: the episodes that one part holds, and their simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, batched_environment
from slateflow.policies import Behaviour, behaviour_policy
from slateflow.policies.play import Step, play, seed_of
from slateflow.trajectories.parts import Part
from slateflow.trajectories.recipe import Recipe
from slateflow.trajectories.schema import Trajectories

BLOCK_EPISODES = 500
"""Episodes in a part. Fixed, because the random streams belong to the block."""


@dataclass(frozen=True)
class Block:
    """A part that is to be made."""

    policy: str
    behaviour: str | Behaviour
    path: str
    seed_block: int
    first_episode: int
    episodes: int

    def key(self, seed: int) -> dict[str, Any]:
        """What the part's file says of itself; a file that says otherwise is another part."""
        key = {
            "policy": self.policy,
            "seed": seed,
            "seed_block": self.seed_block,
            "first_episode": self.first_episode,
            "episodes": self.episodes,
        }
        if isinstance(self.behaviour, Behaviour):
            key["behaviour"] = self.behaviour.to_dict()
        return key

    def part(self, rows: int, sha256: str) -> Part:
        """The manifest's entry of the part, once it has been made."""
        return Part(self.path, self.policy, self.seed_block, self.episodes, rows, sha256)


def plan(recipe: Recipe) -> list[Block]:
    """The parts of a dataset, in the order of its rows."""
    sizes = [
        (policy, number, min(BLOCK_EPISODES, count - number * BLOCK_EPISODES))
        for policy, count in recipe.policy_episodes().items()
        for number in range(-(-count // BLOCK_EPISODES))
    ]
    behaviours = recipe.behaviours
    first = accumulate((episodes for _, _, episodes in sizes), initial=0)
    return [
        Block(
            policy,
            behaviours[policy],
            f"policy={policy}/part-{number:05d}.parquet",
            index,
            start,
            episodes,
        )
        for index, ((policy, number, episodes), start) in enumerate(zip(sizes, first, strict=False))
    ]


def simulate(spec: EnvironmentSpec, blocks: Sequence[Block], seed: int) -> list[Trajectories]:
    """Play the episodes of blocks of one policy and one size; rows sorted by episode, then step.

    The blocks are lanes of one batch, which shares out the cost of a step; each draws from
    streams of its own.
    """
    first = blocks[0]
    env = batched_environment(spec, sum(block.episodes for block in blocks), autoreset=False)
    seeds = [
        seed_of(np.random.SeedSequence(seed, spawn_key=(block.seed_block,))) for block in blocks
    ]
    policy = behaviour_policy(first.behaviour, spec)
    moments = [_Moment.of(step) for step in play(env, policy, seeds)]
    whole = _rows(spec, moments, first.first_episode)
    lengths = np.sum([moment.alive for moment in moments], axis=0)  # (B,), of the episodes
    rows = lengths.reshape(len(blocks), -1).sum(axis=1)  # of the blocks
    ends = np.cumsum(rows)
    return [whole.part(slice(end - count, end)) for end, count in zip(ends, rows, strict=True)]


@dataclass(frozen=True)
class _Moment:
    """What is logged of one step of the lanes that are alive, a row each."""

    alive: NDArray[np.bool_]  # (B,)
    lanes: NDArray[np.intp]  # (A,) that are alive
    columns: dict[str, NDArray[Any]]  # each (A, …)

    @classmethod
    def of(cls, step: Step) -> _Moment:
        """Without the lanes that idle: where sessions end early they would be most of it."""
        columns: dict[str, NDArray[Any]] = {
            "step": step.observation["step"][:, 0],
            "user": step.observation["user"],
            "candidates": step.observation["candidates"],
            "slate": step.slates,
            "propensity": step.propensities,
            "reward": step.rewards,
            "terminated": step.terminated,
            "truncated": step.truncated,
            **step.responses,  # clicked and the response columns
        }
        lanes = np.flatnonzero(step.alive)
        if len(lanes) < len(step.alive):
            columns = {name: values[lanes] for name, values in columns.items()}
        return cls(step.alive, lanes, columns)


def _rows(spec: EnvironmentSpec, moments: list[_Moment], first_episode: int) -> Trajectories:
    """The steps of all lanes as rows, each written straight to its place."""
    lengths = np.sum([moment.alive for moment in moments], axis=0)  # (B,)
    first = np.cumsum(lengths) - lengths  # row of each lane's first step
    even = bool((lengths == len(moments)).all())

    def rows(name: str, dtype: type | None = None) -> NDArray[Any]:
        some = moments[0].columns[name]
        placed = np.empty((lengths.sum(), *some.shape[1:]), dtype or some.dtype)
        for number, moment in enumerate(moments):
            where = slice(number, None, len(moments)) if even else first[moment.lanes] + number
            placed[where] = moment.columns[name]
        return placed

    episodes = np.arange(first_episode, first_episode + len(lengths))
    return Trajectories(
        episode=np.repeat(episodes, lengths),
        step=rows("step"),
        user=rows("user"),
        candidates=rows("candidates"),
        slate=rows("slate"),
        propensity=rows("propensity"),
        clicked=rows("clicked"),
        reward=rows("reward", np.float32),
        responses={name: rows(name) for name in spec.response_columns},
        terminated=rows("terminated"),
        truncated=rows("truncated"),
    )
