"""Requests for a recipe's model as its consumers write them, and what the policy then observes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation, batched_environment
from slateflow.trajectories.encoding import Column, Encoding
from slateflow.trajectories.schema import Trajectories
from tasks.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 4


@dataclass(frozen=True)
class Examples:
    """Requests, and the same for a policy."""

    frame: pd.DataFrame
    observation: Observation


def example_requests(experiment: Experiment) -> Examples:
    """A few requests: from the simulator, or from the first rows of own logs."""
    if experiment.spec.simulated:
        observation, _ = batched_environment(experiment.spec, EXAMPLES).reset(seed=0)
        return Examples(request_frame(observation), observation)
    dataset = experiment.open_dataset()
    assert dataset.encoding is not None
    rows = next(dataset.iter_parts()).where(slice(EXAMPLES))
    return Examples(logged_requests(rows, dataset.encoding), rows.observation())


def request_frame(observation: Observation) -> pd.DataFrame:
    """Observations as requests of the registry's contract: one row each."""
    import pandas as pd

    return pd.DataFrame(
        {
            "user": observation["user"].astype(np.float64).tolist(),
            "candidates": observation["candidates"].astype(np.float64).tolist(),
            "step": observation["step"][:, 0].astype(np.int64),
        }
    )


def logged_requests(rows: Trajectories, encoding: Encoding) -> pd.DataFrame:
    """Rows of own logs as requests: the user's columns, and the offered items by their ids."""
    import pandas as pd

    sizes = np.cumsum([len(column.features) for column in encoding.user])[:-1]
    features = np.split(rows.user, sizes, axis=1)
    columns = [_values(column, part) for column, part in zip(encoding.user, features, strict=False)]
    ids = np.array(encoding.items, dtype=object)
    offered = zip(rows.candidates, rows.offered, strict=True)
    return pd.DataFrame(
        {
            "user": [list(user) for user in zip(*columns, strict=True)] or [[]] * len(rows),
            "items": [ids[items[:count]].tolist() for items, count in offered],
            "step": rows.step.astype(np.int64),
        }
    )


def _values(column: Column, features: NDArray[np.float32]) -> list[Any]:
    """The values (R,) of a column from its features (R, F); None for an unknown category."""
    if column.kind != "categories":
        values = features.astype(np.float64)
        return list(values.tolist() if column.kind == "numbers" else values[:, 0].tolist())
    known = np.array([*column.vocabulary, None], dtype=object)
    place = np.where(features.any(axis=1), features.argmax(axis=1), -1)
    return list(known[place])
