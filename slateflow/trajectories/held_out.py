"""Held-out episodes: learners are not trained on them, so that they can judge what was learnt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import HELD_OUT as HELD_OUT
from slateflow.trajectories.files.part_files import PartFile, write_part
from slateflow.trajectories.schema import Trajectories


def parts_and_held_out(
    dataset: Dataset,
) -> Iterator[tuple[PartFile, Trajectories, NDArray[np.bool_]]]:
    """Each part, its rows, and (R,) which of them belong to episodes that are held out."""
    earlier = 0
    for part, rows in zip(dataset.parts, dataset.iter_parts(), strict=True):
        yield part, rows, dataset.hold_out.mask(rows, earlier)
        earlier += part.episodes


def training_logs(dataset: Dataset, folder: Folder) -> Dataset:
    """The episodes that are not held out, as a dataset of their own in `folder`, made once."""

    def make() -> Dataset:
        parts = []
        for part, rows, held_out in parts_and_held_out(dataset):
            kept = rows.where(~held_out)
            if not len(kept):
                continue
            key = {"policy": part.policy, "held_in_of": part.sha256}
            digest = write_part(folder, part.path, kept, dataset.spec, key)
            parts.append(
                PartFile(
                    part.path, part.policy, part.seed_block, len(kept.starts), len(kept), digest
                )
            )
        recipe = {**dataset.recipe, "held_in_of": dataset.digest}
        spec, catalogue, encoding = dataset.spec, dataset.catalogue, dataset.encoding
        return Dataset(folder, spec, recipe, tuple(parts), catalogue, encoding).publish()

    return Dataset.make_once(folder, dataset.digest.encode(), make)
