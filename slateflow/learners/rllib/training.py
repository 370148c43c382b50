"""Builds an RLlib algorithm over a dataset, runs it in this process, and takes its weights out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.bc import BCConfig as RLlibBCConfig
from ray.rllib.algorithms.marwil import MARWILConfig as RLlibMARWILConfig
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import LEARNER_RESULTS

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.learners.config import (
    BCConfig,
    CQLConfig,
    FittedQConfig,
    IQLConfig,
    LearnerConfig,
    MARWILConfig,
    NetworkConfig,
)
from slateflow.learners.rllib.checkpoints import Checkpoint, Standing
from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.cql import CQLAlgorithmConfig, CQLModule
from slateflow.learners.rllib.fitted_q import (
    FittedQAlgorithmConfig,
    PolynomialModule,
    export_polynomial,
)
from slateflow.learners.rllib.input import (
    ColumnarOfflineData,
    FeatureMoments,
    flat_observation_space,
)
from slateflow.learners.rllib.iql import IQLAlgorithmConfig, IQLModule
from slateflow.learners.rllib.scoring_network import ScoringModule, export_network
from slateflow.learners.rllib.stream import StreamedOfflineData, too_large
from slateflow.policies import Scorer
from slateflow.trajectories import Dataset
from slateflow.user_models.session_memory import fitting_decays, memory_size

UPDATES_PER_ITERATION = 50
"""Minibatches between two points of a training curve."""

CHECKPOINT_ITERATIONS = 4
"""Points of a training curve between two checkpoints."""


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        scorer: What it learnt.
        curves: Training curves by metric.
        earlier_seconds: Wall-clock seconds of the runs that were killed before this one.
        live_steps: Steps with live users.
    """

    scorer: Scorer
    curves: dict[str, list[float]]
    earlier_seconds: float = 0.0
    live_steps: int = 0


def train_on_rllib(
    dataset: Dataset,
    config: LearnerConfig,
    seed: int,
    progress: Callable[[int, int], None],
    checkpoints: Path | None = None,
) -> Trained:
    """Train and export. The global random state of torch is left as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on few cores a second thread costs more than it brings
    try:
        with torch.random.fork_rng(devices=[]), cluster(_processes(dataset, config)):
            torch.manual_seed(seed)
            return _train(dataset, config, seed, progress, checkpoints)
    finally:
        torch.set_num_threads(threads)


def _train(
    dataset: Dataset,
    config: LearnerConfig,
    seed: int,
    progress: Callable[[int, int], None],
    folder: Path | None,
) -> Trained:
    start = time.perf_counter()
    algorithm = algorithm_config(dataset, config, seed).build_algo()
    try:
        checkpoint = None if folder is None else Checkpoint.of(folder, dataset, config, seed)
        standing = Standing() if checkpoint is None else checkpoint.restore(algorithm)
        earlier, iterations = standing.seconds, _iterations(config)
        while standing.iterations < iterations:
            iterate(algorithm, standing)
            standing.seconds = earlier + time.perf_counter() - start
            if checkpoint is not None and standing.iterations % CHECKPOINT_ITERATIONS == 0:
                checkpoint.save(algorithm, standing)
            progress(standing.iterations, iterations)
        scorer = _export(trained_module(algorithm), dataset.spec, config)
        decays = algorithm.config.input_read_method_kwargs["decays"]
        scorer = replace(scorer, user_size=dataset.spec.user_size, decays=np.array(decays))
    finally:
        algorithm.offline_data.close()
        algorithm.stop()
    if checkpoint is not None:
        checkpoint.remove()
    if not all(math.isfinite(value) for value in scorer.head.ravel()):
        raise InputError(f"{config.learner}: expected finite weights, got NaN; is the data finite?")
    return Trained(scorer, standing.curves, earlier)


def iterate(algorithm: Algorithm, standing: Standing) -> dict[str, Any]:
    """One call of `train()`; its losses become points of the training curves."""
    results: dict[str, Any] = algorithm.train()
    for name, value in results[LEARNER_RESULTS].get(DEFAULT_MODULE_ID, {}).items():
        if _is_curve(name, value):
            standing.curves.setdefault(name, []).append(float(value))
    standing.iterations += 1
    return results


def trained_module(algorithm: Algorithm) -> Any:
    """The module of the first learner, wherever that runs."""
    first, *_ = algorithm.learner_group.foreach_learner(
        lambda learner: learner.module[DEFAULT_MODULE_ID].unwrapped()
    )
    return first.get()


def algorithm_config(dataset: Dataset, config: LearnerConfig, seed: int) -> AlgorithmConfig:
    """The RLlib configuration of a learner over a dataset."""
    spec, decays = dataset.spec, fitting_decays(dataset)
    memory = memory_size(spec.document_size, decays)
    base = _base_config(config)
    whole = isinstance(config, FittedQConfig)
    return (
        base.environment(
            observation_space=flat_observation_space(spec, memory),
            action_space=gym.spaces.Discrete(spec.num_candidates),
        )
        .framework("torch")
        .env_runners(num_env_runners=0)
        .learners(num_learners=_learners(config))
        .offline_data(
            input_=[dataset.path],
            offline_data_class=(
                StreamedOfflineData if _streamed(dataset, config) else ColumnarOfflineData
            ),
            input_read_method_kwargs={
                "window": config.window,  # type: ignore[attr-defined]
                "seed": seed,
                "whole": whole,
                "decays": decays,
                "hold_out": isinstance(config, CQLConfig) and config.restarts > 1,
            },
            dataset_num_iters_per_learner=UPDATES_PER_ITERATION,
        )
        .reporting(min_time_s_per_iteration=0)
        .rl_module(rl_module_spec=_module_spec(dataset, config, decays))
    )


def _base_config(config: LearnerConfig) -> AlgorithmConfig:
    if isinstance(config, FittedQConfig):
        fitted = FittedQAlgorithmConfig()
        return fitted.learners(learner_config_dict={"ridge": config.ridge})
    assert isinstance(config, NetworkConfig)
    # RLlib counts one batch of steps an iteration, however many minibatches it updates with.
    steps = _iterations(config) * config.batch_size
    training = {
        "lr": [[0, config.learning_rate], [steps, config.learning_rate / 100]],
        "train_batch_size_per_learner": config.batch_size // max(1, config.num_learners),
        "grad_clip": config.max_grad_norm,
        "grad_clip_by": "global_norm",
    }
    if isinstance(config, BCConfig):
        return RLlibBCConfig().training(**training)
    if isinstance(config, MARWILConfig):
        # RLlib starts the average squared advantage at 100 and moves it by 1e-8 an update: that
        # takes its place by a constant, and divides beta by ten.
        return RLlibMARWILConfig().training(
            beta=config.beta,
            vf_coeff=config.value_coefficient,
            moving_average_sqd_adv_norm_start=1.0,
            moving_average_sqd_adv_norm_update_rate=0.01,
            **training,
        )
    if isinstance(config, IQLConfig):
        settings = {"expectile": config.expectile, "target_rate": config.target_rate}
        return IQLAlgorithmConfig().training(**training).learners(learner_config_dict=settings)
    assert isinstance(config, CQLConfig)
    settings = {"conservatism": config.conservatism, "target_rate": config.target_rate}
    return CQLAlgorithmConfig().training(**training).learners(learner_config_dict=settings)


def _module_spec(
    dataset: Dataset, config: LearnerConfig, decays: tuple[float, ...]
) -> RLModuleSpec:
    moments = FeatureMoments.of(dataset, decays)
    memory = memory_size(dataset.spec.document_size, decays)
    sizes = {
        "user_size": dataset.spec.user_size + memory,
        "document_size": dataset.spec.document_size,
        "offset": moments.offset.tolist(),
        "scale": moments.scale.tolist(),
    }
    if isinstance(config, FittedQConfig):
        shape = {"degree": config.degree, "window": config.window}
        return RLModuleSpec(module_class=PolynomialModule, model_config={**sizes, **shape})
    assert isinstance(config, NetworkConfig)
    shape = {
        "width": config.width,
        "layers": config.layers,
        "values_states": isinstance(config, MARWILConfig | IQLConfig),
    }
    modules = {CQLConfig: CQLModule, IQLConfig: IQLModule}
    module = modules.get(type(config), ScoringModule)
    return RLModuleSpec(module_class=module, model_config={**sizes, **shape})


def _learners(config: LearnerConfig) -> int:
    """Processes that learn beside this one; the closed form has no use for them."""
    return config.num_learners if isinstance(config, NetworkConfig) else 0


def _streamed(dataset: Dataset, config: LearnerConfig) -> bool:
    """Whether the rows pass through memory; the closed form has them all in one batch."""
    return isinstance(config, NetworkConfig) and too_large(dataset, config.memory_rows)


def _processes(dataset: Dataset, config: LearnerConfig) -> int:
    """Processes of Ray beside this one."""
    return max(_learners(config), int(_streamed(dataset, config)))


def _iterations(config: LearnerConfig) -> int:
    if isinstance(config, FittedQConfig):
        return config.window
    assert isinstance(config, NetworkConfig)
    return -(-config.updates // UPDATES_PER_ITERATION)


def _export(module: Any, spec: EnvironmentSpec, config: LearnerConfig) -> Scorer:
    if isinstance(config, FittedQConfig):
        return export_polynomial(module, spec)
    assert isinstance(config, NetworkConfig)
    # The slow copy is an average over the last updates, and acts better than the network.
    scorer = module.target_scorer if isinstance(config, CQLConfig | IQLConfig) else module.scorer
    return export_network(scorer, module, spec, config.window)


def _is_curve(name: str, value: Any) -> bool:
    learnt = ("loss", "error", "penalty", "residual", "explained_var")
    return name != ALL_MODULES and any(part in name for part in learnt)
