"""Training with live interaction, for comparison with learning from logs.

The algorithms are RLlib's own, with the scoring network of the offline learners, on the batched
simulator. Every step in which a user was shown a slate is counted, the survey's included.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.learners.config import Trained
from slateflow.learners.rllib.checkpoints import TrainingProgress
from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.live_config import LiveConfig
from slateflow.learners.rllib.live_world import LiveSurvey, LiveWorld, survey
from slateflow.learners.rllib.scoring_network import export_network
from slateflow.learners.rllib.training import iterate, trained_module
from slateflow.progress import Progress

RLLIB_ENVIRONMENT = "rllib-single-agent-env-v0"
"""Name under which RLlib registers every environment in Gymnasium."""


def train_with_users(
    spec: EnvironmentSpec,
    config: LiveConfig,
    seed: int,
    progress: Progress,
) -> Trained:
    """Survey, train and export; without remote samplers, equal seeds give equal weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on few cores a second thread costs more than it gains
    try:
        with seeded(seed), cluster(config.num_learners + config.num_env_runners):
            return _train(spec, config, seed, progress)
    finally:
        torch.set_num_threads(threads)


def _train(spec: EnvironmentSpec, config: LiveConfig, seed: int, progress: Progress) -> Trained:
    found = survey(spec, config.survey_episodes, seed)
    algorithm = live_algorithm(spec, config, found, seed).build_algo()
    config.seed_algorithm(algorithm, seed)
    done, live_steps = TrainingProgress(), found.live_steps
    try:
        while live_steps + config.round_steps <= config.live_steps:
            results = iterate(algorithm, done)
            sampled = results[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME]
            live_steps = found.live_steps + int(sampled)
            progress(live_steps, config.live_steps)
        module = trained_module(algorithm)
    finally:
        algorithm.stop()
        gym.registry.pop(RLLIB_ENVIRONMENT, None)  # so that the next one does not override it
    if not done.iterations:
        raise InputError(
            f"{config.learner}.live_steps: expected at least "
            f"{found.live_steps + config.round_steps} for the survey and a round, "
            f"got {config.live_steps}"
        )
    network = module.target_scorer if config.acts_by_target else module.scorer
    scorer = export_network(network, module, spec, config.window)
    return Trained(scorer, done.curves, live_steps=live_steps)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, from which RLlib draws, and restore them at the end."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def live_algorithm(
    spec: EnvironmentSpec, config: LiveConfig, found: LiveSurvey, seed: int
) -> AlgorithmConfig:
    """The RLlib configuration of a learner with live users."""
    sizes = {
        "user_size": spec.user_size,
        "document_size": spec.document_size,
        "offset": found.moments.offset.tolist(),
        "scale": found.moments.scale.tolist(),
        "width": config.width,
        "layers": config.layers,
        "values_states": config.values_states,
    }

    world = {
        "spec": spec,
        "window": config.window,
        "reward_mean": found.reward_mean,
        "reward_scale": found.reward_scale,
        "seed": seed,
    }
    return (
        config.algorithm(sizes)
        .environment(LiveWorld, env_config=world)
        .callbacks(on_environment_created=_users_of_its_own)
        .framework("torch")
        .env_runners(
            num_env_runners=config.num_env_runners,
            num_envs_per_env_runner=-(-config.users // max(1, config.num_env_runners)),
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=config.num_learners)
        # A restarted sampler would not draw the same users
        .fault_tolerance(restart_failed_env_runners=False)
        .reporting(min_time_s_per_iteration=0)
        .debugging(log_sys_usage=False)  # waiting for its thread takes most of a second
    )


def _users_of_its_own(*, env: Any, env_context: Any, **kwargs: Any) -> None:
    """Give every sampling process users of its own."""
    env.runner = env_context.worker_index or 0
