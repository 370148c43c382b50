"""Build an RLlib algorithm over a dataset, run it in this process, and export its weights."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import LEARNER_RESULTS

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.learners.config import Trained
from slateflow.learners.features import FeatureMoments, flat_observation_space
from slateflow.learners.passes import sampled
from slateflow.learners.rllib.checkpoints import Checkpoint, TrainingProgress
from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.input import ColumnarOfflineData
from slateflow.learners.rllib.network_config import UPDATES_PER_ITERATION, OfflineConfig
from slateflow.learners.rllib.scoring_network import export_network
from slateflow.learners.rllib.stream import StreamedOfflineData, exceeds_memory
from slateflow.policies import Scorer
from slateflow.policies.scorer import Support
from slateflow.progress import Progress
from slateflow.trajectories import Dataset
from slateflow.user_models.session_memory import SessionMemory, fitting_memory
from slateflow.user_models.session_scorers import with_session_memory
from slateflow.user_models.support import logged_support, without_gaps

SUPPORT_ROWS = 200_000
"""Most rows on which the support is fitted; whole sessions."""

CHECKPOINT_ITERATIONS = 4
"""Points of a training curve between two checkpoints."""


def train_on_rllib(
    dataset: Dataset,
    config: OfflineConfig,
    seed: int,
    progress: Progress,
    checkpoints: Path | None = None,
) -> Trained:
    """Train and export; torch's global random state is restored."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on few cores a second thread costs more than it gains
    try:
        with torch.random.fork_rng(devices=[]), cluster(_processes(dataset, config)):
            torch.manual_seed(seed)
            return _train(dataset, config, seed, progress, checkpoints)
    finally:
        torch.set_num_threads(threads)


def _train(
    dataset: Dataset,
    config: OfflineConfig,
    seed: int,
    progress: Progress,
    folder: Path | None,
) -> Trained:
    start = time.perf_counter()
    algorithm = algorithm_config(dataset, config, seed).build_algo()
    try:
        checkpoint = (
            None if folder is None else Checkpoint.for_training(folder, dataset, config, seed)
        )
        done = TrainingProgress() if checkpoint is None else checkpoint.restore(algorithm)
        earlier, iterations = done.seconds, config.iterations
        while done.iterations < iterations:
            iterate(algorithm, done)
            done.seconds = earlier + time.perf_counter() - start
            if checkpoint is not None and done.iterations % CHECKPOINT_ITERATIONS == 0:
                checkpoint.save(algorithm, done)
            progress(done.iterations, iterations)
        scorer = _export(trained_module(algorithm), dataset.spec, config)
        memory = algorithm.config.input_read_method_kwargs["memory"]
        support = algorithm.config.input_read_method_kwargs["support"]
        scorer = with_session_memory(scorer, dataset.spec, memory)
        scorer = replace(scorer, support=support and without_gaps(support))
    finally:
        algorithm.offline_data.close()
        algorithm.stop()
    if checkpoint is not None:
        checkpoint.remove()
    if not all(math.isfinite(value) for value in scorer.head.ravel()):
        raise InputError(
            f"{config.learner}: expected finite weights, got NaN; check that the data is finite"
        )
    return Trained(scorer, done.curves, earlier)


def iterate(algorithm: Algorithm, done: TrainingProgress) -> dict[str, Any]:
    """Call `train()` once, and add its losses to the training curves."""
    results: dict[str, Any] = algorithm.train()
    for name, value in results[LEARNER_RESULTS].get(DEFAULT_MODULE_ID, {}).items():
        if _is_curve(name):
            done.curves.add(name, float(value))
    done.iterations += 1
    return results


def trained_module(algorithm: Algorithm) -> Any:
    """The module of the first learner, in whatever process it runs."""
    first, *_ = algorithm.learner_group.foreach_learner(
        lambda learner: learner.module[DEFAULT_MODULE_ID].unwrapped()
    )
    return first.get()


def algorithm_config(dataset: Dataset, config: OfflineConfig, seed: int) -> AlgorithmConfig:
    """The RLlib configuration of a learner over a dataset."""
    spec, memory = dataset.spec, fitting_memory(dataset)
    # RLlib counts one batch of steps per iteration, however many minibatches it updates with.
    steps = config.iterations * config.batch_size
    training = {
        "lr": [[0, config.learning_rate], [steps, config.learning_rate / 100]],
        "train_batch_size_per_learner": config.batch_size // max(1, config.num_learners),
        "grad_clip": config.max_grad_norm,
        "grad_clip_by": "global_norm",
    }
    return (
        config.algorithm(training)
        .environment(
            observation_space=flat_observation_space(
                spec, memory.size(spec.document_size), catalogue=dataset.catalogue is not None
            ),
            action_space=gym.spaces.Discrete(spec.num_candidates),
        )
        # RLlib would check all gradients twice per update; weights are checked at the end
        .framework("torch", torch_skip_nan_gradients=True)
        .env_runners(num_env_runners=0)
        .learners(num_learners=config.num_learners)
        .offline_data(
            input_=[dataset.path],
            offline_data_class=(
                StreamedOfflineData
                if exceeds_memory(dataset, config.max_rows_in_ram)
                else ColumnarOfflineData
            ),
            input_read_method_kwargs={
                "window": config.window,
                "seed": seed,
                "memory": memory,
                "hold_out": config.holds_out,
                "support": _support(dataset) if config.values_actions else None,
            },
            dataset_num_iters_per_learner=UPDATES_PER_ITERATION,
        )
        .reporting(min_time_s_per_iteration=0)
        .debugging(log_sys_usage=False)  # waiting for its thread takes most of a second
        .rl_module(rl_module_spec=_module_spec(dataset, config, memory))
    )


def _support(dataset: Dataset) -> Support:
    """The support of the logs, fitted on a sample of them."""
    if not dataset.rows:
        raise InputError(f"{dataset.path}: expected rows to train from, got none")
    return logged_support(sampled(dataset, SUPPORT_ROWS, lambda rows: None))


def _module_spec(dataset: Dataset, config: OfflineConfig, memory: SessionMemory) -> RLModuleSpec:
    moments = FeatureMoments.from_dataset(dataset, memory)
    catalogue = dataset.catalogue
    sizes = {
        "user_size": dataset.spec.user_size + memory.size(dataset.spec.document_size),
        "document_size": dataset.spec.document_size,
        "offset": moments.offset.tolist(),
        "scale": moments.scale.tolist(),
        "items": None if catalogue is None else catalogue.features,
    }
    shape = {
        "width": config.width,
        "layers": config.layers,
        "values_states": config.values_states,
    }
    return RLModuleSpec(module_class=config.module(), model_config={**sizes, **shape})


def _processes(dataset: Dataset, config: OfflineConfig) -> int:
    """Number of Ray processes beside this one."""
    return max(config.num_learners, int(exceeds_memory(dataset, config.max_rows_in_ram)))


def _export(module: Any, spec: EnvironmentSpec, config: OfflineConfig) -> Scorer:
    network = module.target_scorer if config.acts_by_target else module.scorer
    return export_network(network, module, spec, config.window)


def _is_curve(name: str) -> bool:
    learnt = ("loss", "error", "penalty", "residual", "explained_var")
    return name != ALL_MODULES and any(part in name for part in learnt)
