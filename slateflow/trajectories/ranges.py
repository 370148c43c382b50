"""The ranges of a dataset's features, by which requests far outside of them are recognised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slateflow.trajectories.schema import blocks

if TYPE_CHECKING:
    from slateflow.trajectories.files.dataset import Dataset


def feature_ranges(dataset: Dataset) -> NDArray[np.float64]:
    """Least and greatest values (2, U + D) of the features of users, then of candidates.

    One pass over the Parquet. All items of a catalogue count, whether or not they were offered.
    """
    low = np.full(dataset.spec.user_size + dataset.spec.document_size, np.inf)
    high = -low
    for features, values in _values(dataset):
        np.minimum(low[features], values.min(axis=0, initial=np.inf), out=low[features])
        np.maximum(high[features], values.max(axis=0, initial=-np.inf), out=high[features])
    return np.stack([low, high])


def _values(dataset: Dataset) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Values (…, F) of users' or candidates' features, and their slice of the ranges' columns."""
    users = slice(dataset.spec.user_size)
    candidates = slice(dataset.spec.user_size, None)
    numbers = dataset.spec.num_candidates * dataset.spec.document_size
    if dataset.catalogue is not None:
        yield candidates, dataset.catalogue.features
    for rows in dataset.iter_parts():
        yield users, rows.user
        if dataset.catalogue is None:
            for block in blocks(len(rows), numbers):
                features = rows.candidate_features(block)
                yield candidates, features.reshape(-1, features.shape[-1])
