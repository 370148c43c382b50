"""Several trainings of a learner, from which held-out logs choose the best.

The same network trained on the same logs gives policies of very different worth, depending on the
seed. So it is trained a few times without every fifth episode, and the training is kept whose
policy fitted-Q evaluation values most on those episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from slateflow.evaluation.off_policy.fitted_q_evaluation import (
    Estimator,
    held_out_estimator,
    memory_decays,
)
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
    best: Trained | None = None
    estimator: Estimator | None = None
    values: list[float] = []
    earlier_seconds = 0.0
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
        values.append(estimator.value(trained.scorer))
        earlier_seconds += trained.earlier_seconds
        if best is None or values[-1] > max(values[:-1]):
            best = trained
    assert best is not None
    curves = {**best.curves, "held_out_value": values}
    return replace(best, curves=curves, earlier_seconds=earlier_seconds)
