"""From a dataset and a configuration to a scorer and a training summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from slateflow.environments import EnvironmentSpec
from slateflow.learners.config import Curves, LearnerConfig, Trained
from slateflow.policies import AnyScorer
from slateflow.progress import Progress, unwatched
from slateflow.trajectories import Dataset
from slateflow.user_models.sums_of_parts import parts_side_by_side


@dataclass(frozen=True)
class TrainingSummary:
    """The record of a training.

    Attributes:
        learner: Name of the learner.
        parameters: Its settings.
        seed: Seed of everything random in the training.
        rows: Logged steps from which it learnt.
        live_steps: Steps with live users from which it learnt.
        train_seconds: Wall-clock seconds, including reading and earlier runs that were killed, but
            not importing Ray.
        curves: Training curves by metric; empty for a closed form.
    """

    learner: str
    parameters: dict[str, Any]
    seed: int
    rows: int
    train_seconds: float
    curves: Curves
    live_steps: int = 0


def train(
    dataset: Dataset,
    config: LearnerConfig,
    seed: int = 0,
    progress: Progress = unwatched,
    checkpoints: Path | None = None,
) -> tuple[AnyScorer, TrainingSummary]:
    """Train a learner from the logs alone.

    Args:
        dataset: A published dataset.
        config: The learner and its settings.
        seed: Equal datasets, settings and seeds give the same weights.
        progress: Called with the number of finished iterations and the number of all iterations.
        checkpoints: Folder from which a killed training resumes: the next call with the same
            dataset, settings and seed ends in the same weights.

    Returns:
        The scoring function and the training's summary.

    Raises:
        InputError: No learner, or not this one, can learn from the dataset.
    """
    # Learners in other processes have another working directory
    dataset = replace(dataset, folder=dataset.folder.absolute())
    with parts_side_by_side(dataset):
        return _summarised(
            config, seed, dataset.rows, lambda: config.train(dataset, seed, progress, checkpoints)
        )


def train_live(
    spec: EnvironmentSpec, config: LearnerConfig, seed: int = 0, progress: Progress = unwatched
) -> tuple[AnyScorer, TrainingSummary]:
    """Train a learner with simulated users.

    Args:
        spec: The world.
        config: The learner and its settings.
        seed: Equal worlds, settings and seeds give the same weights.
        progress: Called with the number of steps taken and the number of all steps.

    Raises:
        InputError: The learner does not learn live, or not in this world.
    """
    return _summarised(config, seed, 0, lambda: config.train_live(spec, seed, progress))


def _summarised(
    config: LearnerConfig, seed: int, rows: int, run: Callable[[], Trained]
) -> tuple[AnyScorer, TrainingSummary]:
    with _rllib() if config.on_rllib else nullcontext():
        start = time.perf_counter()
        trained = run()
        seconds = trained.earlier_seconds + time.perf_counter() - start
    return trained.scorer, TrainingSummary(
        learner=config.learner,
        parameters=config.parameters(),
        seed=seed,
        rows=rows,
        train_seconds=seconds,
        curves=trained.curves,
        live_steps=trained.live_steps,
    )


IMPORTED_LATE = (
    "slateflow.learners.rllib.training",
    "sklearn.tree",  # for fitting the support
    "torch._dynamo",  # for the first optimizer
)
"""Modules that learners on RLlib need at some point, and whose import takes seconds."""


def import_rllib() -> None:
    """Import the modules that learners on RLlib need, without output."""
    with _rllib():
        pass


@contextmanager
def _rllib() -> Iterator[None]:
    """Import RLlib before any clock starts, and keep it quiet."""
    from slateflow.learners.rllib.quiet import quiet_rllib

    with quiet_rllib():
        for module in IMPORTED_LATE:
            import_module(module)
        yield
