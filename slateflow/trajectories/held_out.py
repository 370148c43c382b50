"""Held-out episodes: learners are not trained on them, so that they can judge what was learnt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import BY_PLACE, HoldOut
from slateflow.trajectories.files.hold_out import HELD_OUT as HELD_OUT
from slateflow.trajectories.files.part_files import PartFile, write_part
from slateflow.trajectories.schema import Trajectories

MOST_EPISODES = 400
"""Most held-out episodes that off-policy evaluation uses."""


def held_out(rows: Trajectories, earlier: int = 0, rule: HoldOut = BY_PLACE) -> NDArray[np.bool_]:
    """(R,) whether a row belongs to an episode that is held out.

    Args:
        rows: All rows of a dataset, or those of a part.
        earlier: Episodes in the parts before.
        rule: The dataset's.
    """
    return rule.mask(rows, earlier)


def held_out_rows(dataset: Dataset) -> Trajectories:
    """Rows of the held-out episodes, of at most `MOST_EPISODES` of them.

    Raises:
        InputError: Too few episodes are held out.
    """
    every = max(-(-(dataset.episodes // HELD_OUT) // MOST_EPISODES), 1)
    kept, earlier, found = [], 0, 0
    for rows in dataset.iter_parts():
        held = rows.where(held_out(rows, earlier, dataset.hold_out))
        kept.append(held.where((found + held.sessions) % every == 0))
        earlier, found = earlier + len(rows.starts), found + len(held.starts)
    rows = Trajectories.from_parts(kept) if kept else dataset.read()
    if not len(rows):
        raise InputError(
            f"{dataset.path}: expected at least {HELD_OUT} episodes, so that one can be held out, "
            f"got {dataset.episodes}; set restarts to 1"
        )
    return rows


def training_logs(dataset: Dataset, folder: Folder) -> Dataset:
    """The episodes that are not held out, as a dataset of their own in `folder`, made once."""

    def make() -> Dataset:
        parts, earlier = [], 0
        for part, rows in zip(dataset.parts, dataset.iter_parts(), strict=True):
            kept = rows.where(~held_out(rows, earlier, dataset.hold_out))
            earlier += part.episodes
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
