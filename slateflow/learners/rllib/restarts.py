"""Several trainings of a learner, from which held-out logs choose the best.

Depending on the seed, a network trained on the same log gives policies of very different value. So
it is trained a few times without every fifth episode, and the training whose policy has the highest
estimate on those episodes is kept.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.estimates import held_out_values
from slateflow.learners.config import Trained
from slateflow.learners.rllib.network_config import OfflineConfig
from slateflow.learners.rllib.training import train_on_rllib
from slateflow.progress import Progress
from slateflow.trajectories import Dataset


def train_with_restarts(
    dataset: Dataset,
    config: OfflineConfig,
    restarts: int,
    seed: int,
    progress: Progress,
    checkpoints: Path | None,
) -> Trained:
    """Keep the best of `restarts` trainings, with the values of all as a curve."""
    tried: list[Trained] = []
    for restart in range(restarts):
        trained = train_on_rllib(
            dataset,
            config,
            int(np.random.SeedSequence([seed, restart]).generate_state(1)[0]),
            lambda done, total, before=restart: progress(  # type: ignore[misc]
                before * total + done, restarts * total
            ),
            checkpoints,
        )
        tried.append(trained)
    found = held_out_values(dataset, {str(n): one.scorer for n, one in enumerate(tried)})
    values = [math.nan if one.value is None else one.value for one in found.values()]
    if np.isnan(values).all():
        raise InputError(
            f"{config.learner}: expected logs that show which of {restarts} trainings is best, "
            f"got logs that do not: {found['0'].reason}; set restarts to 1 otherwise"
        )
    best = tried[int(np.nanargmax(values))]
    for value in values:
        best.curves.add("held_out_value", value)
    seconds = sum(trained.earlier_seconds for trained in tried)
    return replace(best, earlier_seconds=seconds)
