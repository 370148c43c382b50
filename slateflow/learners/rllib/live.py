"""PPO and DQN with live interaction, for comparison with what is learnt from logs.

Both are RLlib's own, with the scoring network that the offline learners have, on the batched
simulator. Every step that a user was shown something is counted, the survey's included.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig as RLlibDQNConfig
from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.learners.config import DQNConfig, OnlineConfig, PPOConfig
from slateflow.learners.rllib.checkpoints import Standing
from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.live_world import OnlineWorld, Survey, survey
from slateflow.learners.rllib.scoring_network import ScoringModule, export_network
from slateflow.learners.rllib.training import Trained, iterate, trained_module

RLLIB_ENVIRONMENT = "rllib-single-agent-env-v0"
"""Under this name RLlib registers every environment in Gymnasium."""


class PPOModule(ScoringModule, InferenceOnlyAPI):
    """The scoring network as a policy, and the value of the state for the advantages."""

    def get_non_inference_attributes(self) -> list[str]:
        """What acting does not need."""
        return ["value"]


class DQNModule(ScoringModule, QNetAPI, InferenceOnlyAPI):
    """The scoring network as a Q-function that explores ε-greedily.

    `model_config` has `exploration_steps`, in which ε falls from 1 to `final_epsilon`.
    """

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Values of the candidates."""
        return {"qf_preds": self.score(self.scorer, batch[Columns.OBS])}

    def get_non_inference_attributes(self) -> list[str]:
        """What acting does not need."""
        return ["target_scorer"]

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self.score(self.scorer, batch[Columns.OBS]).argmax(dim=1)}

    def _forward_exploration(
        self, batch: dict[str, Any], t: int = 0, **kwargs: Any
    ) -> dict[str, Any]:
        best = self._forward_inference(batch)[Columns.ACTIONS]
        done = min(t / self.model_config["exploration_steps"], 1.0)
        epsilon = 1 + done * (self.model_config["final_epsilon"] - 1)
        candidates = (batch[Columns.OBS].shape[1] - self.known) // self.document_size
        anything = torch.randint(candidates, best.shape)
        return {Columns.ACTIONS: torch.where(torch.rand(best.shape) < epsilon, anything, best)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        following = batch[Columns.NEXT_OBS]
        return {
            "qf_preds": self.score(self.scorer, batch[Columns.OBS]),
            "qf_next_preds": self.score(self.scorer, following),
            "qf_target_next_preds": self.score(self.target_scorer, following),
        }


def train_online(
    spec: EnvironmentSpec,
    config: OnlineConfig,
    seed: int,
    progress: Callable[[int, int], None],
) -> Trained:
    """Survey, train and export. The same seed gives the same weights without remote samplers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on few cores a second thread costs more than it brings
    try:
        with seeded(seed), cluster(config.num_learners + config.num_env_runners):
            return _train(spec, config, seed, progress)
    finally:
        torch.set_num_threads(threads)


def _train(
    spec: EnvironmentSpec, config: OnlineConfig, seed: int, progress: Callable[[int, int], None]
) -> Trained:
    found = survey(spec, config.survey_episodes, seed)
    algorithm = online_algorithm(spec, config, found, seed).build_algo()
    if isinstance(config, DQNConfig):  # RLlib's buffer takes no seed
        algorithm.local_replay_buffer.rng = np.random.default_rng(seed)
    standing, live_steps = Standing(), found.live_steps
    try:
        while live_steps + config.round_steps <= config.live_steps:
            results = iterate(algorithm, standing)
            sampled = results[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME]
            live_steps = found.live_steps + int(sampled)
            progress(live_steps, config.live_steps)
        module = trained_module(algorithm)
    finally:
        algorithm.stop()
        gym.registry.pop(RLLIB_ENVIRONMENT, None)  # else the next one is told that it overrides
    if not standing.iterations:
        raise InputError(
            f"{config.learner}.live_steps: expected at least "
            f"{found.live_steps + config.round_steps} for the survey and a round, "
            f"got {config.live_steps}"
        )
    network = module.target_scorer if isinstance(config, DQNConfig) else module.scorer
    scorer = export_network(network, module, spec, config.window)
    return Trained(scorer, standing.curves, live_steps=live_steps)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """RLlib draws from all global generators; they are left as they were."""
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


def online_algorithm(
    spec: EnvironmentSpec, config: OnlineConfig, found: Survey, seed: int
) -> AlgorithmConfig:
    """The RLlib configuration of an online learner."""
    sizes = {
        "user_size": spec.user_size,
        "document_size": spec.document_size,
        "offset": found.moments.offset.tolist(),
        "scale": found.moments.scale.tolist(),
        "width": config.width,
        "layers": config.layers,
        "values_states": isinstance(config, PPOConfig),
    }

    world = {
        "spec": spec,
        "window": config.window,
        "reward_mean": found.reward_mean,
        "reward_scale": found.reward_scale,
        "seed": seed,
    }
    base = _ppo(config, sizes) if isinstance(config, PPOConfig) else _dqn(config, sizes)
    return (
        base.environment(OnlineWorld, env_config=world)
        .callbacks(on_environment_created=_users_of_its_own)
        .framework("torch")
        .env_runners(
            num_env_runners=config.num_env_runners,
            num_envs_per_env_runner=-(-config.users // max(1, config.num_env_runners)),
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=config.num_learners)
        # A sampler that was started again would not draw the same users
        .fault_tolerance(restart_failed_env_runners=False)
        .reporting(min_time_s_per_iteration=0)
    )


def _users_of_its_own(*, env: Any, env_context: Any, **kwargs: Any) -> None:
    """Every process that samples meets others."""
    env.runner = env_context.worker_index or 0


def _ppo(config: PPOConfig, sizes: dict[str, Any]) -> AlgorithmConfig:
    return (
        RLlibPPOConfig()
        .training(
            gamma=1.0,
            lambda_=config.trace,
            lr=[[0, config.learning_rate], [config.live_steps, config.learning_rate / 100]],
            train_batch_size_per_learner=config.round_steps // max(1, config.num_learners),
            minibatch_size=min(config.batch_size, config.round_steps)
            // max(1, config.num_learners),
            num_epochs=config.epochs,
            clip_param=config.clip,
            entropy_coeff=[[0, config.entropy], [config.live_steps, 0.0]],
            use_kl_loss=False,
            vf_clip_param=float("inf"),
            grad_clip=config.max_grad_norm,
            grad_clip_by="global_norm",
        )
        .env_runners(rollout_fragment_length=config.steps)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=PPOModule, model_config=sizes))
    )


def _dqn(config: OnlineConfig, sizes: dict[str, Any]) -> AlgorithmConfig:
    assert isinstance(config, DQNConfig)
    exploration = {
        "exploration_steps": config.exploration_steps,
        "final_epsilon": config.final_epsilon,
    }
    spec = RLModuleSpec(module_class=DQNModule, model_config={**sizes, **exploration})
    return (
        RLlibDQNConfig()
        .training(
            gamma=1.0,
            lr=[[0, config.learning_rate], [config.live_steps, config.learning_rate / 100]],
            train_batch_size_per_learner=config.batch_size // max(1, config.num_learners),
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": config.live_steps},
            num_steps_sampled_before_learning_starts=config.users * config.steps * 10,
            target_network_update_freq=1,
            tau=config.target_rate,
            double_q=True,
            dueling=False,
            td_error_loss_fn="mse",
            grad_clip=config.max_grad_norm,
            grad_clip_by="global_norm",
        )
        .env_runners(rollout_fragment_length=config.steps)
        .reporting(min_sample_timesteps_per_iteration=config.round_steps)
        .rl_module(rl_module_spec=spec)
    )
