"""Held-out episodes: learners are not trained on them, so they can evaluate a trained policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories.files.dataset import Dataset, newest_datasets
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import HELD_OUT as HELD_OUT
from slateflow.trajectories.files.part_files import PartFile, write_part
from slateflow.trajectories.schema import Trajectories, arrow_schema


def parts_and_held_out(
    dataset: Dataset,
) -> Iterator[tuple[PartFile, Trajectories, NDArray[np.bool_]]]:
    """Each part, its rows, and the mask (R,) of rows in held-out episodes."""
    earlier = 0
    for part, rows in zip(dataset.parts, dataset.iter_parts(), strict=True):
        yield part, rows, dataset.hold_out.mask(rows, earlier)
        earlier += part.episodes


def training_logs(dataset: Dataset, folder: Folder) -> Dataset:
    """The episodes that are not held out, as a dataset of their own in `folder`, made once.

    Parts of days that earlier training logs beside `folder` have are taken over from there.
    """

    def make() -> Dataset:
        earlier, parts = _earlier(dataset, folder), []
        firsts = {day.key: day.first for day in dataset.days}
        counts: Counter[str] = Counter()
        for part in dataset.parts:
            counts[part.day] += part.episodes
        passed = 0
        for part in dataset.parts:
            rule = dataset.hold_out.within(firsts.get(part.day, 0), counts[part.day], passed)
            held_in = replace(part, held_in_of=f"{part.sha256} {rule}")
            made = _taken(dataset, folder, part, held_in, earlier) if part.day else None
            if made is None and rule != "all":
                made = _held_in(dataset, folder, part, held_in, passed)
            parts += [made] if made is not None else []
            passed += part.episodes
        recipe = {**dataset.recipe, "held_in_of": dataset.digest}
        spec, catalogue, encoding = dataset.spec, dataset.catalogue, dataset.encoding
        return Dataset(folder, spec, recipe, tuple(parts), catalogue, encoding).publish()

    return Dataset.make_once(folder, dataset.digest.encode(), make)


def _held_in(
    dataset: Dataset, folder: Folder, part: PartFile, held_in: PartFile, earlier: int
) -> PartFile | None:
    """Write the rows of a part that are not held out; None if all are held out."""
    rows = dataset.part(part)
    kept = rows.where(~dataset.hold_out.mask(rows, earlier))
    if not len(kept):
        return None
    key = {"policy": part.policy, "held_in_of": part.sha256}
    digest = write_part(folder, part.path, kept, dataset.spec, key)
    return replace(held_in, episodes=len(kept.starts), rows=len(kept), sha256=digest)


def _taken(
    dataset: Dataset,
    folder: Folder,
    part: PartFile,
    held_in: PartFile,
    earlier: dict[str, tuple[Dataset, PartFile]],
) -> PartFile | None:
    """Take over a part without held-out rows, or one of earlier training logs; otherwise None."""
    wanted = held_in.held_in_of
    source, taken = (
        (dataset, part) if wanted.endswith(" none") else earlier.get(wanted, (None, part))
    )
    if source is None or not source.has(taken, arrow_schema(dataset.spec)):
        return None
    folder.take(part.path, source.folder, taken.path)
    return replace(held_in, episodes=taken.episodes, rows=taken.rows, sha256=taken.sha256)


def _earlier(dataset: Dataset, folder: Folder) -> dict[str, tuple[Dataset, PartFile]]:
    """Parts of training logs beside the folder, by their `held_in_of`: source part and rule."""
    if not any(part.day for part in dataset.parts):
        return {}
    beside, _, own = folder.url.rstrip("/").rpartition("/")
    found = newest_datasets(
        Folder(beside), own.partition(".")[0], own, lambda one: one.spec.name == dataset.spec.name
    )
    return {part.held_in_of: (one, part) for one in reversed(found) for part in one.parts}
