"""From a recipe to a published dataset."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import repeat

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.ray_cluster import cluster_address, connected, map_tasks, processors
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.files.dataset import REMEDY, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import PartFile, kept_part, write_part
from slateflow.trajectories.generation.plan import PlannedPart, plan
from slateflow.trajectories.generation.recipe import AnyRecipe, Recipe
from slateflow.trajectories.generation.simulate import batches, simulate
from slateflow.trajectories.schema import Trajectories, column_digest
from slateflow.trajectories.sources.recipe import LoggedRecipe

Batch = Sequence[PlannedPart]


def generate(
    recipe: AnyRecipe,
    data: Folder,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Create the dataset of a recipe unless it already exists; own logs are read and checked.

    The same recipe gives the same digest for any number of workers. Whole parts of an interrupted
    run are used.

    Args:
        recipe: How the dataset is made.
        data: Folder that holds the datasets; where `RAY_ADDRESS` is set, one that all machines of
            that cluster see.
        workers: Processes on this machine; the processors of a Ray cluster take their place.
        progress: Called with the number of finished parts and that of all parts.

    Raises:
        InputError: The folder cannot be written to, or holds a dataset of another recipe.
    """
    if isinstance(recipe, LoggedRecipe):
        from slateflow.trajectories.sources.publish import publish_source  # imports pandas

        return publish_source(recipe, data, progress)
    folder = data / recipe.dataset_name

    def make() -> Dataset:
        planned, parts = plan(recipe), []
        for part in _make_parts(recipe, folder, planned, workers):
            parts.append(part)
            progress(len(parts), len(planned))
        return Dataset(folder, recipe.spec, recipe.to_dict(), tuple(parts)).publish()

    content = json.dumps(recipe.to_dict(), sort_keys=True).encode()
    return _of_recipe(recipe, Dataset.make_once(folder, content, make))


def _of_recipe(recipe: Recipe, dataset: Dataset) -> Dataset:
    """The dataset itself, if it is complete and was made by this recipe."""
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
    recipe: Recipe, folder: Folder, planned: list[PlannedPart], workers: int
) -> Iterator[PartFile]:
    if address := cluster_address():
        yield from _make_on_cluster(recipe, folder, planned, address)
        return
    groups = batches(recipe.spec, planned, workers)
    if workers == 1 or len(groups) == 1:
        yield from make_parts(recipe, folder, groups)
        return
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(groups))
    with ProcessPoolExecutor(count, context, initializer=_end_with_parent) as pool:
        for parts in pool.map(_make_batch, repeat(recipe), repeat(folder), groups):
            yield from parts


def _make_on_cluster(
    recipe: Recipe, folder: Folder, planned: list[PlannedPart], address: str
) -> Iterator[PartFile]:
    shared = folder.absolute()
    with connected(address):
        jobs = [(recipe, shared, batch) for batch in batches(recipe.spec, planned, processors())]
        for parts in map_tasks(_make_batch, jobs):
            for part in parts:
                if not folder.exists(part.path):
                    raise InputError(
                        f"{folder.url}/{part.path}: expected a folder that the Ray cluster at "
                        f"{address} shares with this machine, got one that it does not; choose "
                        "another with --data"
                    )
                yield part


def _end_with_parent() -> None:
    """End this worker when its parent is killed, instead of waiting for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def make_parts(recipe: Recipe, folder: Folder, groups: Iterable[Batch]) -> Iterator[PartFile]:
    """Simulate parts and write them, except those that have been written.

    A thread turns a batch into rows, encodes and writes them while the next batch is played; most
    of its work releases the interpreter's lock. At most two batches are in memory.

    Args:
        recipe: How the dataset is made.
        folder: Where it is made.
        groups: Parts of one policy and one size, which are simulated in one batch.
    """
    spec, seed = recipe.spec, recipe.seed
    with ThreadPoolExecutor(1, "writer") as writer:
        writing: Future[list[PartFile]] | None = None
        for group in groups:
            written = {part: _written(folder, part, spec, seed) for part in group}
            missing = [part for part in group if written[part] is None]
            played = simulate(spec, missing, seed) if missing else iter(())
            if writing:
                yield from writing.result()  # after a failure nothing more is written
            writing = writer.submit(_write_batch, folder, recipe, written, played)
            del played  # so that only the writer holds it
        if writing:
            yield from writing.result()


def _make_batch(recipe: Recipe, folder: Folder, batch: Batch) -> list[PartFile]:
    """Worker entry point: `make_parts` for one batch."""
    return list(make_parts(recipe, folder, [batch]))


def _write_batch(
    folder: Folder,
    recipe: Recipe,
    written: Mapping[PlannedPart, PartFile | None],
    played: Iterator[Trajectories],
) -> list[PartFile]:
    """Write the rows of the parts that have not been written; the entries of all of them."""
    entries = []
    for part, entry in written.items():
        if entry is None:
            rows = next(played)
            digest = write_part(folder, part.path, rows, recipe.spec, part.key(recipe.seed))
            entry = part.manifest_entry(len(rows), digest)
        entries.append(entry)
    return entries


def _written(
    folder: Folder, part: PlannedPart, spec: EnvironmentSpec, seed: int
) -> PartFile | None:
    """The part as an interrupted run left it, if it is the wanted one and undamaged."""
    kept = kept_part(folder, part.path, spec, part.key(seed), REMEDY, Catalogue.of_world(spec))
    return None if kept is None else part.manifest_entry(len(kept), column_digest(kept))
