"""From a recipe to a published dataset."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slateflow.environments import EnvironmentSpec, batched_environment
from slateflow.errors import InputError
from slateflow.policies import Behaviour, behaviour_policy
from slateflow.policies.play import play, seed_of
from slateflow.trajectories.dataset import MANIFEST, REMEDY, Dataset
from slateflow.trajectories.parts import Part, read_part, write_part
from slateflow.trajectories.recipe import Recipe
from slateflow.trajectories.schema import METADATA_KEY, Trajectories, column_digest
from slateflow.trajectories.storage import Folder

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


def generate(
    recipe: Recipe,
    data: Folder,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Make the dataset of a recipe, or find it made.

    The same recipe gives the same digest for any number of workers. Parts that an interrupted
    run left behind are taken up.

    Args:
        recipe: What to make.
        data: Folder that holds the datasets.
        workers: Processes.
        progress: Called with the finished and all parts.

    Raises:
        InputError: The folder cannot be written to, or holds a dataset of another recipe.
    """
    folder = data / recipe.name
    if folder.exists(MANIFEST):
        return _reuse(recipe, Dataset.open(folder.url))
    with folder.claimed(json.dumps(recipe.to_dict(), sort_keys=True).encode()):
        if folder.exists(MANIFEST):  # another process published it meanwhile
            return _reuse(recipe, Dataset.open(folder.url))
        blocks = plan(recipe)
        parts = []
        for part in _make_parts(recipe, folder, blocks, workers):
            parts.append(part)
            progress(len(parts), len(blocks))
        return Dataset(folder, recipe.spec, recipe.to_dict(), tuple(parts)).publish()


def _reuse(recipe: Recipe, dataset: Dataset) -> Dataset:
    if dataset.recipe != recipe.to_dict() or dataset.spec != recipe.spec:
        changed = [
            key for key, value in recipe.to_dict().items() if dataset.recipe.get(key) != value
        ]
        raise InputError(
            f"{dataset.path}: expected the dataset of this recipe, found one with other "
            f"{', '.join(changed) or 'defaults'}; a published dataset never changes, so rename "
            "the recipe or delete the dataset"
        )
    return dataset.check()


def _make_parts(
    recipe: Recipe, folder: Folder, blocks: list[Block], workers: int
) -> Iterator[Part]:
    if workers == 1 or len(blocks) == 1:
        yield from (make_part(recipe, folder, block) for block in blocks)
        return
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(blocks))
    with ProcessPoolExecutor(count, context, initializer=_end_with_parent) as pool:
        yield from pool.map(make_part, repeat(recipe), repeat(folder), blocks)


def _end_with_parent() -> None:
    """A worker would otherwise wait for ever for the next block of a parent that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def make_part(recipe: Recipe, folder: Folder, block: Block) -> Part:
    """Simulate one block and write it, unless it has been written already."""
    key = block.key(recipe.seed)
    rows, digest = _written(folder, block.path, recipe.spec, key) or _write(
        folder, block, recipe, key
    )
    return Part(
        path=block.path,
        policy=block.policy,
        seed_block=block.seed_block,
        episodes=block.episodes,
        rows=rows,
        sha256=digest,
    )


def _write(folder: Folder, block: Block, recipe: Recipe, key: dict[str, Any]) -> tuple[int, str]:
    """Number and digest of the rows that were simulated and written."""
    rows = simulate(recipe.spec, block, recipe.seed)
    return len(rows), write_part(folder, block.path, rows, recipe.spec, key)


def _written(
    folder: Folder, path: str, spec: EnvironmentSpec, key: dict[str, Any]
) -> tuple[int, str] | None:
    """The same of a part from an interrupted run, if it is the one wanted and undamaged."""
    if not folder.exists(path):
        return None
    try:
        metadata = pq.read_schema(folder.open(path)).metadata or {}
        document = json.loads(metadata.get(METADATA_KEY, b"{}"))
        if document.get("environment") != spec.to_dict():
            return None
        rows = read_part(folder, path, spec, REMEDY)
        digest = column_digest(rows)
        # Parquet has checksums for its pages but none for its footer
        wanted = {**key, "sha256": digest}
        return (len(rows), digest) if document.get("part") == wanted else None
    except (InputError, pa.ArrowException, OSError, ValueError, AttributeError):
        return None


def simulate(spec: EnvironmentSpec, block: Block, seed: int) -> Trajectories:
    """Play the block's episodes; rows sorted by episode, then step."""
    env = batched_environment(spec, block.episodes)
    sequence = np.random.SeedSequence(seed, spawn_key=(block.seed_block,))
    steps = list(play(env, behaviour_policy(block.behaviour, spec), seed_of(sequence)))
    alive = np.stack([step.alive for step in steps], axis=1)  # (B, T)

    def rows(per_step: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return np.stack(per_step, axis=1)[alive]

    episodes = np.arange(block.first_episode, block.first_episode + block.episodes)
    return Trajectories(
        episode=np.broadcast_to(episodes[:, None], alive.shape)[alive],
        step=rows([step.observation["step"][:, 0] for step in steps]),
        user=rows([step.observation["user"] for step in steps]),
        candidates=rows([step.observation["candidates"] for step in steps]),
        slate=rows([step.slates for step in steps]),
        propensity=rows([step.propensities for step in steps]),
        clicked=rows([step.responses["clicked"] for step in steps]),
        reward=rows([step.rewards for step in steps]).astype(np.float32),
        responses={
            name: rows([step.responses[name] for step in steps]) for name in spec.response_columns
        },
        terminated=rows([step.terminated for step in steps]),
        truncated=rows([step.truncated for step in steps]),
    )
