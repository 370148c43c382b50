"""Blocks: the episodes that one part holds, and their simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import BatchedEnvironment, EnvironmentSpec, batched_environment
from slateflow.policies import Behaviour, behaviour_policy
from slateflow.policies.play import Step, play, seed_of
from slateflow.trajectories.bits import Bits
from slateflow.trajectories.files.part_files import Part
from slateflow.trajectories.generation.recipe import Recipe
from slateflow.trajectories.schema import Columns, arrow_schema

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


def logged_bytes(spec: EnvironmentSpec) -> int:
    """Bytes that a simulated step of one user takes before it is a row."""
    env = batched_environment(spec, 1, seed=0)
    step = next(play(env, behaviour_policy("random", spec), 0))
    return sum(values.nbytes for values in _Moment.of(step).columns.values())


def simulate(spec: EnvironmentSpec, blocks: Sequence[Block], seed: int) -> Iterator[Columns]:
    """Play the episodes of blocks of one policy and one size; rows sorted by episode, then step.

    The blocks are lanes of one batch, which shares out the cost of a step; each draws from
    streams of its own.
    """
    lanes = sum(block.episodes for block in blocks)
    env = batched_environment(spec, lanes, common_numbers=False)
    seeds = [
        seed_of(np.random.SeedSequence(seed, spawn_key=(block.seed_block,))) for block in blocks
    ]
    policy = behaviour_policy(blocks[0].behaviour, spec)
    log = _Log([_Moment.of(step) for step in play(env, policy, seeds)])
    columns = {name: log.rows(name, 0, lanes) for name in log.names if name != "documents"}
    names = arrow_schema(spec).names
    start = 0
    for number, block in enumerate(blocks):
        first = number * block.episodes
        lengths = log.lengths[first : first + block.episodes]
        end = start + int(lengths.sum())
        part: dict[str, NDArray[Any] | Bits] = {
            name: values[start:end] for name, values in columns.items()
        }
        numbers = np.arange(block.first_episode, block.first_episode + block.episodes)
        part["episode"] = np.repeat(numbers, lengths)
        # Of one part at a time, because they are large: the cache still has them when it is written
        part["candidates"] = _candidates(env, log.rows("documents", first, first + block.episodes))
        yield {name: part[name] for name in names}
        start = end


def _candidates(env: BatchedEnvironment[Any], documents: NDArray[Any]) -> NDArray[Any] | Bits:
    """(R, N·D) of documents (R, N, …)."""
    spec, rows = env.environment_spec, len(documents)
    length = spec.num_candidates * spec.document_size
    if env.features(documents[:1]).dtype != np.bool_:
        return env.features(documents).reshape(rows, length)
    packed = [  # as many as stay in the processor's cache, and whole bytes of them
        np.packbits(env.features(some).view(np.bool_), bitorder="little")
        for some in np.split(documents, range(2048, rows, 2048))
    ]
    return Bits(np.concatenate(packed), rows, length)


@dataclass(frozen=True)
class _Moment:
    """What is logged of one step, a row a lane."""

    lanes: NDArray[np.intp]  # (A,)
    columns: dict[str, NDArray[Any]]  # each (A, …)

    @classmethod
    def of(cls, step: Step) -> _Moment:
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
        return cls(step.lanes, columns)


class _Log:
    """The steps of all lanes (B), and the rows of some: by episode, then step.

    Attributes:
        names: Of the columns.
        lengths: (B,) steps of each lane.
    """

    def __init__(self, moments: list[_Moment]) -> None:
        self.names = list(moments[0].columns)
        self.lengths = np.bincount(np.concatenate([moment.lanes for moment in moments]))
        self._first = np.cumsum(self.lengths) - self.lengths  # row of each lane's first step
        self._moments = moments
        self._same_length = bool((self.lengths == len(moments)).all())
        if self._same_length:
            return
        places = np.concatenate([self._first[one.lanes] + n for n, one in enumerate(moments)])
        self._order = np.empty_like(places)
        self._order[places] = np.arange(len(places))
        self._by_step = {
            name: np.concatenate([moment.columns.pop(name) for moment in moments])
            for name in self.names
        }

    def rows(self, name: str, start: int, end: int) -> NDArray[Any]:
        """A column of the lanes from `start` to below `end`."""
        if not self._same_length:
            last = end - 1
            chosen = slice(self._first[start], self._first[last] + self.lengths[last])
            return self._by_step[name].take(self._order[chosen], axis=0)
        values, steps = self._moments[0].columns[name], len(self._moments)
        made = np.empty(((end - start) * steps, *values.shape[1:]), values.dtype)
        placed = _whole_rows(made)
        for number, moment in enumerate(self._moments):
            placed[number::steps] = _whole_rows(moment.columns[name][start:end])
        return made


def _whole_rows(values: NDArray[Any]) -> NDArray[Any]:
    """Values (R, …) as R things, which are copied each at once and not number by number."""
    if values.ndim == 1 or not values.size:
        return values
    return values.reshape(len(values), -1).view(np.dtype((np.void, values[0].nbytes)))[:, 0]
