"""Held-out episodes: learners are not trained on them, so that they can judge what was learnt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import BY_PLACE, HoldOut
from slateflow.trajectories.files.hold_out import HELD_OUT as HELD_OUT
from slateflow.trajectories.files.part_files import PartFile, write_part
from slateflow.trajectories.schema import Trajectories


def held_out(rows: Trajectories, earlier: int = 0, rule: HoldOut = BY_PLACE) -> NDArray[np.bool_]:
    """(R,) whether a row belongs to an episode that is held out.

    Args:
        rows: All rows of a dataset, or those of a part.
        earlier: Episodes in the parts before.
        rule: The dataset's.
    """
    return rule.mask(rows, earlier)


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
