"""The episodes that learners are not trained from, so that something can be chosen by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.files.dataset import MANIFEST, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import Part, write_part
from slateflow.trajectories.schema import Trajectories

HELD_OUT = 5
"""Every fifth episode is held out."""

MOST_EPISODES = 400
"""Held-out episodes that judges make use of."""


def held_out(rows: Trajectories, earlier: int = 0) -> NDArray[np.bool_]:
    """Whether a row (R,) belongs to an episode that is held out.

    By its place among the episodes of the rows, so that every policy gives its share.

    Args:
        rows: A dataset's, or those of a part of it.
        earlier: Episodes in the parts before.
    """
    first = np.append(True, rows.episode[1:] != rows.episode[:-1])
    return np.asarray((earlier + np.cumsum(first) - 1) % HELD_OUT == HELD_OUT - 1)


def held_out_rows(dataset: Dataset) -> Trajectories:
    """The steps of the episodes that are held out, of some hundred episodes at most.

    Raises:
        InputError: Too few episodes are held out.
    """
    rows = dataset.read()
    rows = rows.where(held_out(rows))
    session = np.cumsum(rows.step == 0) - 1
    every = -(-int(session.max(initial=0) + 1) // MOST_EPISODES)
    rows = rows.where(session % every == 0)
    if not (rows.step > 0).any():
        raise InputError(
            f"{dataset.path}: expected {HELD_OUT} episodes of two steps or more, so that one "
            f"can be held out, got {dataset.episodes} episodes; set restarts to 1"
        )
    return rows


def training_logs(dataset: Dataset, folder: Folder) -> Dataset:
    """The episodes that are not held out, as a dataset of their own in `folder`.

    It is made once; whoever asks again finds it.
    """
    if folder.exists(MANIFEST):
        return Dataset.open(folder.url)
    with folder.claimed(dataset.digest.encode()):
        if folder.exists(MANIFEST):  # another process published it meanwhile
            return Dataset.open(folder.url)
        parts, earlier = [], 0
        for part, rows in zip(dataset.parts, dataset.iter_parts(), strict=True):
            kept = rows.where(~held_out(rows, earlier))
            earlier += part.episodes
            if not len(kept):
                continue
            key = {"policy": part.policy, "held_in_of": part.sha256}
            digest = write_part(folder, part.path, kept, dataset.spec, key)
            episodes = len(np.unique(kept.episode))
            parts.append(Part(part.path, part.policy, part.seed_block, episodes, len(kept), digest))
        recipe = {**dataset.recipe, "held_in_of": dataset.digest}
        return Dataset(folder, dataset.spec, recipe, tuple(parts)).publish()
