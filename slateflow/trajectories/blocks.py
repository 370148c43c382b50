"""Blocks: the episodes that one part holds, and their simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def simulate(spec: EnvironmentSpec, blocks: Sequence[Block], seed: int) -> Iterator[Trajectories]:
    """Play the episodes of blocks of one policy and one size; rows sorted by episode, then step.

    The blocks are lanes of one batch, which shares out the cost of a step; each draws from
    streams of its own.
    """
    env = batched_environment(spec, sum(block.episodes for block in blocks), autoreset=False)
    seeds = [
        seed_of(np.random.SeedSequence(seed, spawn_key=(block.seed_block,))) for block in blocks
    ]
    policy = behaviour_policy(blocks[0].behaviour, spec)
    moments = [_Moment.of(step) for step in play(env, policy, seeds)]
    lengths = np.sum([moment.alive for moment in moments], axis=0)  # (B,), of the episodes
    columns = _rows(moments, lengths)
    start = 0
    for block, episodes in zip(blocks, np.split(lengths, len(blocks)), strict=True):
        end = start + int(episodes.sum())
        part = {name: values[start:end] for name, values in columns.items()}
        candidates = env.features(part.pop("documents"))  # of one part at a time: they are large
        responses = {name: part.pop(name) for name in spec.response_columns}
        numbers = np.arange(block.first_episode, block.first_episode + block.episodes)
        yield Trajectories(
            episode=np.repeat(numbers, episodes), candidates=candidates, responses=responses, **part
        )
        start = end


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
            "documents": step.documents,
            "slate": step.slates,
            "propensity": step.propensities,
            "reward": step.rewards.astype(np.float32),
            "terminated": step.terminated,
            "truncated": step.truncated,
            **step.responses,  # clicked and the response columns
        }
        lanes = np.flatnonzero(step.alive)
        if len(lanes) < len(step.alive):
            columns = {name: values.take(lanes, axis=0) for name, values in columns.items()}
        return cls(step.alive, lanes, columns)


def _rows(moments: list[_Moment], lengths: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """The steps of all lanes as rows, by episode, then step; `lengths` (B,) are the episodes'."""
    columns: dict[str, NDArray[Any]] = {}
    if (lengths == len(moments)).all():
        for name, some in moments[0].columns.items():
            columns[name] = placed = np.empty((lengths.sum(), *some.shape[1:]), some.dtype)
            for number, moment in enumerate(moments):
                placed[number :: len(moments)] = moment.columns[name]
        return columns
    first = np.cumsum(lengths) - lengths  # row of each lane's first step
    places = np.concatenate([first[moment.lanes] + n for n, moment in enumerate(moments)])
    order = np.empty_like(places)
    order[places] = np.arange(len(places))
    for name in list(moments[0].columns):
        by_step = np.concatenate([moment.columns.pop(name) for moment in moments])
        columns[name] = by_step.take(order, axis=0)
    return columns
