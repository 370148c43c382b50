"""From a dataset and a configuration to a policy and a report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.learners.bandits import LinearPosterior, dataset_statistics, linear_scorer
from slateflow.learners.config import (
    CQLConfig,
    LearnerConfig,
    LinTSConfig,
    LinUCBConfig,
    OnlineConfig,
    SlateQConfig,
)
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.learners.slateq import train_slateq
from slateflow.policies import AnyScorer, Scorer
from slateflow.trajectories import Dataset


@dataclass(frozen=True)
class TrainingReport:
    """How a training went.

    Attributes:
        learner: Its name.
        parameters: Its settings.
        seed: Seed of everything random in it.
        rows: Logged steps it learnt from.
        live_steps: Steps with live users it learnt from.
        train_seconds: Wall-clock seconds, reading included, importing Ray not; with those of the
            runs that were killed and went on here.
        curves: Training curves by metric; empty for a closed form.
    """

    learner: str
    parameters: dict[str, Any]
    seed: int
    rows: int
    train_seconds: float
    curves: dict[str, list[float]]
    live_steps: int = 0


def train(
    dataset: Dataset,
    config: LearnerConfig,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    checkpoints: Path | None = None,
) -> tuple[AnyScorer, TrainingReport]:
    """Train one learner from the logs alone.

    Args:
        dataset: A published dataset.
        config: Which learner, and its settings.
        seed: The same dataset, settings and seed give the same weights.
        progress: Called with the finished and all iterations.
        checkpoints: Folder for what a training needs to go on if it is killed. The next call with
            the same dataset, settings and seed goes on there, and ends in the same weights.

    Returns:
        The scoring function, and how the training went.

    Raises:
        InputError: The dataset cannot be learnt from.
    """
    if isinstance(config, OnlineConfig):
        raise InputError(
            f"{config.learner}: expected a learner that learns from logs, got one that needs live "
            "users; call train_live"
        )
    # For learners in processes of their own, which have another working directory
    dataset = replace(dataset, folder=dataset.folder.absolute())
    scorer: AnyScorer
    curves: dict[str, list[float]] = {}
    earlier_seconds = 0.0
    if config.rllib:
        with quiet_rllib():
            from slateflow.learners.rllib.restarts import train_best  # Ray takes seconds
            from slateflow.learners.rllib.training import train_on_rllib

            start = time.perf_counter()
            if isinstance(config, CQLConfig) and config.restarts > 1:
                trained = train_best(dataset, config, seed, progress, checkpoints)
            else:
                trained = train_on_rllib(dataset, config, seed, progress, checkpoints)
        scorer, curves = trained.scorer, trained.curves
        earlier_seconds = trained.earlier_seconds
    elif isinstance(config, SlateQConfig):
        start = time.perf_counter()
        scorer, curves = train_slateq(dataset, config, seed, progress)
    else:
        start = time.perf_counter()
        scorer = _train_bandit(dataset, config, seed)
        progress(1, 1)
    report = TrainingReport(
        learner=config.learner,
        parameters=config.parameters(),
        seed=seed,
        rows=dataset.rows,
        train_seconds=earlier_seconds + time.perf_counter() - start,
        curves=curves,
    )
    return scorer, report


def train_live(
    spec: EnvironmentSpec,
    config: LearnerConfig,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Scorer, TrainingReport]:
    """Train one online learner with simulated users.

    Args:
        spec: The world.
        config: Which learner, and its settings.
        seed: The same world, settings and seed give the same weights.
        progress: Called with the steps taken and all steps.

    Raises:
        InputError: The learner is none that learns online, or not in this world.
    """
    if not isinstance(config, OnlineConfig):
        raise InputError(f"{config.learner}: expected a learner with live users, got one for logs")
    with quiet_rllib():
        from slateflow.learners.rllib.live import train_online  # Ray takes seconds

        start = time.perf_counter()
        trained = train_online(spec, config, seed, progress)
    report = TrainingReport(
        learner=config.learner,
        parameters=config.parameters(),
        seed=seed,
        rows=0,
        train_seconds=time.perf_counter() - start,
        curves=trained.curves,
        live_steps=trained.live_steps,
    )
    return trained.scorer, report


def _train_bandit(dataset: Dataset, config: LearnerConfig, seed: int) -> Scorer:
    assert isinstance(config, LinUCBConfig | LinTSConfig)
    statistics = dataset_statistics(dataset)
    statistics.check_candidates(dataset.spec.document_size)
    posterior = LinearPosterior.of(statistics, config.ridge)
    weights = posterior.mean
    if isinstance(config, LinTSConfig):
        weights = posterior.draw(np.random.Generator(np.random.SFC64(seed)), config.exploration)
    return linear_scorer(weights, dataset.spec)
