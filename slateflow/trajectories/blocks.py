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
    steps = list(play(env, behaviour_policy(first.behaviour, spec), seeds))
    whole = _rows(spec, steps, first.first_episode)
    lengths = np.sum([step.alive for step in steps], axis=0)  # (B,), of the episodes
    rows = lengths.reshape(len(blocks), -1).sum(axis=1)  # of the blocks
    ends = np.cumsum(rows)
    return [whole.part(slice(end - count, end)) for end, count in zip(ends, rows, strict=True)]


def _rows(spec: EnvironmentSpec, steps: list[Step], first_episode: int) -> Trajectories:
    """The steps of all lanes as rows, each written once, straight to its place."""
    alive = np.stack([step.alive for step in steps])  # (T, B)
    lengths = alive.sum(axis=0)
    lanes, moments = np.nonzero(alive.T)
    order = moments * len(lengths) + lanes  # of the steps of all lanes, moment by moment
    columns = [_columns(step) for step in steps]

    def rows(name: str, dtype: type | None = None) -> NDArray[Any]:
        values = [column[name] for column in columns]
        if len(order) < alive.size:
            return np.concatenate(values, dtype=dtype).take(order, axis=0)
        placed = np.empty((len(order), *values[0].shape[1:]), dtype or values[0].dtype)
        for moment, value in enumerate(values):  # where all last equally long, no copy between
            placed[moment :: len(steps)] = value
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


def _columns(step: Step) -> dict[str, NDArray[Any]]:
    """What is logged of one step of all lanes, each (B, …)."""
    return {
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
