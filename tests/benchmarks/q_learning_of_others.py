"""d3rlpy's Q-learning on the benchmark's logs; runs in an environment of its own.

Reads `logs.npz` from a folder, and writes `<algorithm>-<setting>-<n>.npz` there, every few seconds
of training: the seconds so far, the scales of observations, and weights and biases of the
network, layer by layer. The times exclude making d3rlpy's dataset, and the writing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import d3rlpy
import numpy as np
import torch
from d3rlpy.logging import NoopAdapterFactory

WIDTH = 64
STEPS = 50
"""Updates between two readings of the clock."""

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "batches of 512": {
        "batch_size": 512,
        "learning_rate": 1e-3,
        "gamma": 0.99,
        "target_update_interval": 200,
    },
    "batches of 512, faster": {
        "batch_size": 512,
        "learning_rate": 1e-2,
        "gamma": 0.95,
        "target_update_interval": 100,
    },
}
"""Settings other than d3rlpy's own."""


def algorithm(name: str, setting: str) -> Any:
    """An algorithm with two hidden layers, observations and rewards standardised."""
    common = {
        "encoder_factory": d3rlpy.models.VectorEncoderFactory([WIDTH, WIDTH]),
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(),
        "reward_scaler": d3rlpy.preprocessing.StandardRewardScaler(),
        **SETTINGS[setting],
    }
    if name == "dqn":
        return d3rlpy.algos.DoubleDQNConfig(**common).create(device="cpu:0")
    if setting != "defaults":
        common["alpha"] = 0.001
    return d3rlpy.algos.DiscreteCQLConfig(**common).create(device="cpu:0")


def layers(learner: Any) -> list[np.ndarray]:
    """Weights and biases of the Q-network, the first layer first."""
    state = learner.impl.modules.q_funcs[0].state_dict()
    encoder = [value for name, value in state.items() if "_encoder" in name]
    head = [value for name, value in state.items() if "_encoder" not in name]
    return [value.numpy().copy() for value in (*encoder, *head)]


def measure(folder: Path, dataset: Any, name: str, setting: str, budget: float, every: float):
    """Train for a number of seconds; write the network to files at equal intervals."""
    d3rlpy.seed(0)
    learner, seconds, written = algorithm(name, setting), 0.0, 0
    start = time.perf_counter()
    for _ in learner.fitter(
        dataset,
        n_steps=10**9,
        n_steps_per_epoch=STEPS,
        logger_adapter=NoopAdapterFactory(),
        show_progress=False,
    ):
        seconds += time.perf_counter() - start
        if seconds >= every * (written + 1):
            scaler = learner.observation_scaler
            np.savez(
                folder / f"{name}-{setting}-{written:03}.npz",
                *layers(learner),
                seconds=seconds,
                updates=learner.grad_step,
                mean=scaler.mean,
                deviation=scaler.std,
            )
            written += 1
        if seconds >= budget:
            break
        start = time.perf_counter()


if __name__ == "__main__":
    torch.set_num_threads(1)
    where = Path(sys.argv[1])
    with np.load(where / "logs.npz") as stored:
        logs = {name: stored[name] for name in stored.files}
    made = d3rlpy.dataset.MDPDataset(
        logs["observations"],
        logs["actions"][:, None],
        logs["rewards"][:, None],
        logs["terminals"],
        action_space=d3rlpy.constants.ActionSpace.DISCRETE,
        action_size=int(logs["candidates"]),
    )
    for algorithm_name in ("cql", "dqn"):
        for chosen in SETTINGS:
            measure(where, made, algorithm_name, chosen, float(sys.argv[2]), float(sys.argv[3]))
