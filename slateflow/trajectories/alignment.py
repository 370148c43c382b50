"""The same rows in the features of another dataset of the recipe: of other days, for one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.logged import LoggedSpec
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.schema import Trajectories


def aligned(
    features: NDArray[Any], names: Sequence[str], wanted: Sequence[str]
) -> NDArray[np.float32]:
    """Features (…, W) under the wanted names, from features (…, F); zeros for a name that is new.

    Example:
        >>> aligned(np.array([[30.0, 1.0]]), ["age", "country=de"], ["country=at", "age"]).tolist()
        [[0.0, 30.0]]
    """
    place = {name: number for number, name in enumerate(names)}
    found = np.array([place.get(name, -1) for name in wanted], np.intp)
    chosen = np.zeros((*features.shape[:-1], len(wanted)), np.float32)
    chosen[..., found >= 0] = features[..., found[found >= 0]]
    return chosen


def described_as(rows: Trajectories, spec: LoggedSpec, other: LoggedSpec) -> Trajectories:
    """Rows of own logs with the features that another dataset of the recipe has.

    A champion of earlier days is asked about today's users and items in this way: categories and
    items that it does not know are zeros.

    Args:
        rows: With a catalogue.
        spec: Of these rows.
        other: Of the logs that the model was trained on.
    """
    if rows.catalogue is None:
        return rows
    items = aligned(rows.catalogue.features, spec.item_features, other.item_features)
    user = aligned(rows.user, spec.user_features, other.user_features)
    return replace(rows, user=user, catalogue=Catalogue(items))
