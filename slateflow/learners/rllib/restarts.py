"""Several trainings of a learner, from which held-out logs choose the best.

The same network trained on the same logs gives policies of very different worth, depending on the
seed. So it is trained a few times without every fifth episode, and the training is kept whose
policy fitted-Q evaluation values most on those episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.fitted_q_evaluation import (
    Estimator,
    held_out_estimator,
    memory_decays,
)
from slateflow.evaluation.off_policy.gate import HeldOutValue, held_out_value
from slateflow.learners.config import Trained
from slateflow.learners.rllib.network_config import OfflineConfig
from slateflow.learners.rllib.training import train_on_rllib
from slateflow.trajectories import Dataset


def train_with_restarts(
    dataset: Dataset,
    config: OfflineConfig,
    restarts: int,
    seed: int,
    progress: Callable[[int, int], None],
    checkpoints: Path | None,
) -> Trained:
    """Keep the best of `restarts` trainings, with the value of each as a curve."""
    tried: list[tuple[Trained, HeldOutValue]] = []
    estimator: Estimator | None = None
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
        estimator = estimator or held_out_estimator(dataset, memory_decays(trained.scorer))
        tried.append((trained, held_out_value(estimator, trained.scorer)))
    values = [math.nan if found.value is None else found.value for _, found in tried]
    if np.isnan(values).all():
        raise InputError(
            f"{config.learner}: expected logs that can tell which of {restarts} trainings is best, "
            f"got ones that cannot: {tried[0][1].reason}; or set restarts to 1"
        )
    best, _ = tried[int(np.nanargmax(values))]
    curves = {**best.curves, "held_out_value": values}
    seconds = sum(trained.earlier_seconds for trained, _ in tried)
    return replace(best, curves=curves, earlier_seconds=seconds)
