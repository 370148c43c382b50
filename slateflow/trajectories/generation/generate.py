"""From a recipe to a published dataset."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import groupby, repeat

import pyarrow as pa
import pyarrow.parquet as pq

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.ray_cluster import cluster_address, connected, map_tasks, processors
from slateflow.trajectories.files.dataset import MANIFEST, REMEDY, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import Part, encode_part, read_part
from slateflow.trajectories.generation.allocator import keep_memory, kept_memory
from slateflow.trajectories.generation.blocks import (
    BLOCK_EPISODES,
    Block,
    logged_bytes,
    plan,
    simulate,
)
from slateflow.trajectories.generation.recipe import Recipe
from slateflow.trajectories.schema import METADATA_KEY, column_digest

MAX_BLOCKS_AT_ONCE = 12
"""Blocks simulated in one batch, so that they share the cost of a step."""

BATCH_BYTES = 400_000_000
"""Most that a batch may hold, if all its episodes last as long as they can."""


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
        data: Folder that holds the datasets; where `RAY_ADDRESS` is set, one that all machines of
            that cluster see.
        workers: Processes on this machine; the processors of a Ray cluster take their place.
        progress: Called with the finished and all parts.

    Raises:
        InputError: The folder cannot be written to, or holds a dataset of another recipe.
    """
    folder = data / recipe.dataset_name
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
    address = cluster_address()
    if address is not None:
        yield from _make_on_cluster(recipe, folder, blocks, address)
        return
    groups = _groups(recipe.spec, blocks, workers)
    if workers == 1 or len(groups) == 1:
        with kept_memory():
            yield from make_parts(recipe, folder, groups)
        return
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(groups))
    with ProcessPoolExecutor(count, context, initializer=_end_with_parent) as pool:
        for parts in pool.map(_list_parts, repeat(recipe), repeat(folder), groups):
            yield from parts


def _make_on_cluster(
    recipe: Recipe, folder: Folder, blocks: list[Block], address: str
) -> Iterator[Part]:
    shared = folder.absolute()
    with connected(address):
        groups = _groups(recipe.spec, blocks, processors())
        jobs = [(recipe, shared, group) for group in groups]
        for parts in map_tasks(_list_parts, jobs):
            for part in parts:
                if not folder.exists(part.path):
                    raise InputError(
                        f"{folder.url}/{part.path}: expected a folder that the Ray cluster at "
                        f"{address} shares with this machine, got one that it does not; choose "
                        "another with --data"
                    )
                yield part


def _groups(spec: EnvironmentSpec, blocks: list[Block], workers: int) -> list[list[Block]]:
    """Neighbours of one policy and one size, which can be simulated in one batch."""
    at_once = min(_blocks_at_once(spec), -(-len(blocks) // workers))
    alike = [list(one) for _, one in groupby(blocks, lambda block: (block.policy, block.episodes))]
    return [
        group[start : start + at_once] for group in alike for start in range(0, len(group), at_once)
    ]


def _blocks_at_once(spec: EnvironmentSpec) -> int:
    seen = 4 * (spec.user_size + spec.num_candidates * spec.document_size)  # bytes, at each moment
    block = BLOCK_EPISODES * (spec.horizon * logged_bytes(spec) + 4 * seen)
    return max(1, min(MAX_BLOCKS_AT_ONCE, BATCH_BYTES // block))


def _end_with_parent() -> None:
    """A worker would otherwise wait for ever for the next block of a parent that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def make_parts(recipe: Recipe, folder: Folder, groups: Iterable[Sequence[Block]]) -> Iterator[Part]:
    """Simulate blocks and write them, but for those that have been written.

    The disk is waited for in a thread of its own, while the next part is made.

    Args:
        recipe: What to make.
        folder: Where.
        groups: Blocks of one policy and one size, which are simulated in one batch.
    """
    spec, seed = recipe.spec, recipe.seed
    with ThreadPoolExecutor(1, "writer") as writer:
        writing: Future[Part] | None = None
        for group in groups:
            found = {block: _written(folder, block, spec, seed) for block in group}
            missing = [block for block in group if found[block] is None]
            simulated = simulate(spec, missing, seed) if missing else iter(())
            for block in group:
                part, data = found[block], b""
                if part is None:
                    columns = next(simulated)
                    digest, data = encode_part(columns, spec, block.key(seed))
                    part = block.part(len(columns["episode"]), digest)
                if writing:
                    yield writing.result()  # after a failure nothing more is written
                writing = writer.submit(_write, folder, part, data)
        if writing:
            yield writing.result()


def _list_parts(recipe: Recipe, folder: Folder, blocks: Sequence[Block]) -> list[Part]:
    """The same of one group for another process, which keeps its memory."""
    keep_memory()
    return list(make_parts(recipe, folder, [blocks]))


def _write(folder: Folder, part: Part, data: bytes) -> Part:
    """The part, on the disk; without data it has been there before."""
    if data:
        folder.write(part.path, data)
    return part


def _written(folder: Folder, block: Block, spec: EnvironmentSpec, seed: int) -> Part | None:
    """The part from an interrupted run, if it is the one wanted and undamaged."""
    if not folder.exists(block.path):
        return None
    try:
        metadata = pq.read_schema(folder.open(block.path)).metadata or {}
        document = json.loads(metadata.get(METADATA_KEY, b"{}"))
        if document.get("environment") != spec.to_dict():
            return None
        rows = read_part(folder, block.path, spec, REMEDY)
        digest = column_digest(rows)
        # Parquet has checksums for its pages but none for its footer
        wanted = {**block.key(seed), "sha256": digest}
        return block.part(len(rows), digest) if document.get("part") == wanted else None
    except (InputError, pa.ArrowException, OSError, ValueError, AttributeError):
        return None
