"""From a recipe to a published dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

import numpy as np

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.progress import Progress, unwatched
from slateflow.ray_cluster import cluster_address, connected, map_tasks, processors
from slateflow.side_by_side import map_calls
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.files.dataset import (
    REMEDY,
    Dataset,
    differing_keys,
    newest_datasets,
    of_recipe,
)
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import BY_PLACE, HoldOut
from slateflow.trajectories.files.part_files import PartFile, kept_part, write_part
from slateflow.trajectories.generation.plan import PlannedPart, plan_nights
from slateflow.trajectories.generation.recipe import AnyRecipe, Recipe
from slateflow.trajectories.generation.simulate import batches, simulate
from slateflow.trajectories.schema import Trajectories, arrow_schema, column_digest
from slateflow.trajectories.sources.recipe import LoggedRecipe

KEYS_OF_NIGHTS = ("seed", "nights")
"""Keys of a recipe that decide which nights a dataset has, not their contents."""

Batch = Sequence[PlannedPart]
Job = tuple[Recipe, Batch]
"""Parts of one night, one policy and one size, which one batch simulates."""


def generate(
    recipe: AnyRecipe,
    data: Folder,
    workers: int = 1,
    progress: Progress = unwatched,
) -> Dataset:
    """Create the dataset of a recipe unless it already exists; own logs are read and checked.

    A recipe gives the same digest for any number of workers. Whole parts of an interrupted run are
    reused, and nights of an earlier dataset of the recipe are taken over.

    Args:
        recipe: How the dataset is made.
        data: Folder that holds the datasets; where `RAY_ADDRESS` is set, all machines of that
            cluster have to see it.
        workers: Processes on this machine; the processors of a Ray cluster replace them.
        progress: Called with the number of finished parts and the number of all parts.

    Raises:
        InputError: The folder cannot be written to, or holds a dataset of another recipe, or the
            parameters make numbers that no column can hold.
    """
    if isinstance(recipe, LoggedRecipe):
        from slateflow.trajectories.sources.publish import publish_source  # imports pandas

        return publish_source(recipe, data, progress)
    folder = data / recipe.dataset_name

    def make() -> Dataset:
        nights = plan_nights(recipe)
        planned = [part for _, parts in nights for part in parts]
        made: dict[str, PartFile] = {}
        for part in chain(
            _taken(recipe, data, planned), _make_parts(folder, nights, made, workers)
        ):
            made[part.path] = part
            progress(len(made), len(planned))
        policies = list(recipe.policies)
        planned.sort(key=lambda part: policies.index(part.policy))  # and keep the order of nights
        parts = tuple(made[part.path] for part in planned)
        # With several nights, an episode stays held out wherever its night is among them
        rule = BY_PLACE if recipe.nights == 1 else HoldOut("hash")
        return Dataset(folder, recipe.spec, recipe.to_dict(), parts, hold_out=rule).publish()

    content = json.dumps(recipe.to_dict(), sort_keys=True).encode()
    dataset = Dataset.make_once(folder, content, make)
    return of_recipe(dataset, recipe.to_dict(), recipe.spec)


def _taken(recipe: Recipe, data: Folder, planned: Sequence[PlannedPart]) -> Iterator[PartFile]:
    """Take over parts of nights that earlier datasets have; parts in place are left for a check."""
    if recipe.nights == 1:
        return

    def alike(dataset: Dataset) -> bool:
        changed = differing_keys(dataset.recipe, recipe.to_dict())
        return {*changed} <= {*KEYS_OF_NIGHTS} and dataset.spec == recipe.spec

    folder, schema = data / recipe.dataset_name, arrow_schema(recipe.spec)
    found = newest_datasets(data, recipe.name, recipe.dataset_name, alike)
    known = {
        (part.day, part.policy, part.seed_block): (dataset, part)
        for dataset in reversed(found)
        for part in dataset.parts
        if part.day
    }
    for part in planned:
        dataset, there = known.get((part.day, part.policy, part.seed_block), (None, None))
        if dataset is None or there is None or folder.exists(part.path):
            continue
        if dataset.has(there, schema):
            folder.take(part.path, dataset.folder, there.path)
            yield replace(there, path=part.path)


def _make_parts(
    folder: Folder,
    nights: Sequence[tuple[Recipe, list[PlannedPart]]],
    made: Mapping[str, PartFile],
    workers: int,
) -> Iterator[PartFile]:
    """Simulate the parts that have not been made; reuse parts that are in place."""
    address = cluster_address()
    if address:
        yield from _make_on_cluster(folder, nights, made, address)
        return
    jobs = _jobs(nights, made, workers)
    if workers == 1 or len(jobs) <= 1:
        yield from make_parts(folder, jobs)
        return
    for parts in map_calls(_make_batch, [(folder, job) for job in jobs], workers):
        yield from parts


def _jobs(
    nights: Sequence[tuple[Recipe, list[PlannedPart]]], made: Mapping[str, PartFile], workers: int
) -> list[Job]:
    """Batches of the parts that have not been made."""
    missing = [(one, [part for part in parts if part.path not in made]) for one, parts in nights]
    return [
        (one, batch)
        for one, parts in missing
        if parts
        for batch in batches(one.spec, parts, workers)
    ]


def _make_on_cluster(
    folder: Folder,
    nights: Sequence[tuple[Recipe, list[PlannedPart]]],
    made: Mapping[str, PartFile],
    address: str,
) -> Iterator[PartFile]:
    shared = folder.absolute()
    with connected(address):
        jobs = [(shared, job) for job in _jobs(nights, made, processors())]
        for parts in map_tasks(_make_batch, jobs):
            for part in parts:
                if not folder.exists(part.path):
                    raise InputError(
                        f"{folder.url}/{part.path}: expected a folder that the Ray cluster at "
                        f"{address} shares with this machine, got one that it does not share; "
                        "choose another with --data"
                    )
                yield part


def make_parts(folder: Folder, jobs: Iterable[Job]) -> Iterator[PartFile]:
    """Simulate parts and write them, except those that have been written.

    A thread turns a batch into rows, encodes and writes them while the next batch is played; most
    of its work releases the interpreter's lock. At most two batches are in memory.

    Args:
        folder: Folder of the dataset.
        jobs: Batches of parts, each with its recipe.
    """
    with ThreadPoolExecutor(1, "writer") as writer:
        writing: Future[list[PartFile]] | None = None
        for recipe, batch in jobs:
            spec, seed = recipe.spec, recipe.seed
            written = {part: _written(folder, part, spec, seed) for part in batch}
            missing = [part for part in batch if written[part] is None]
            played = simulate(spec, missing, seed) if missing else iter(())
            if writing:
                yield from writing.result()  # after a failure nothing more is written
            writing = writer.submit(_write_batch, folder, recipe, written, played)
            del played  # so that only the writer holds it
        if writing:
            yield from writing.result()


def _make_batch(folder: Folder, job: Job) -> list[PartFile]:
    """Worker entry point: `make_parts` for one batch."""
    return list(make_parts(folder, [job]))


def _write_batch(
    folder: Folder,
    recipe: Recipe,
    written: Mapping[PlannedPart, PartFile | None],
    played: Iterator[Trajectories],
) -> list[PartFile]:
    """Write the parts that have not been written, and return the manifest entries of all parts."""
    entries = []
    for part, entry in written.items():
        if entry is None:
            rows = next(played)
            _check_finite(rows, recipe)
            digest = write_part(folder, part.path, rows, recipe.spec, part.key(recipe.seed))
            entry = part.manifest_entry(len(rows), digest)
        entries.append(entry)
    return entries


def _check_finite(rows: Trajectories, recipe: Recipe) -> None:
    """Raise where the world's parameters make numbers that the columns cannot hold."""
    for name in ("user", "candidates", "reward"):
        if not np.isfinite(getattr(rows, name)).all():
            raise InputError(
                f"recipe {recipe.name}: expected parameters by which {name} are finite numbers "
                f"below {np.finfo(np.float32).max:.1e}, got others; change [parameters]"
            )


def _written(
    folder: Folder, part: PlannedPart, spec: EnvironmentSpec, seed: int
) -> PartFile | None:
    """The part that an interrupted run left; None unless it is the planned one and undamaged."""
    kept = kept_part(folder, part.path, spec, part.key(seed), REMEDY, Catalogue.of_world(spec))
    return None if kept is None else part.manifest_entry(len(kept), column_digest(kept))
