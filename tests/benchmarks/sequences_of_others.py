"""SCOPE-RL's estimators on logged sessions, with d3rlpy's fitted-Q evaluation; runs by itself.

`sequences_of_others.py LOGS UPDATES` prints a line of JSON: the value of the target by estimator,
and seconds of the weighting and of the evaluation. The log has `observations` (R, F), `action`
(R,), `best` (R,) the target's action, `reward` (R,), `pscore` (R, 1) and the steps of a session.
Observations end with a number for each candidate; the target takes the candidate where it is
largest.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import d3rlpy
import numpy as np
import torch
from scope_rl.ope import discrete

WIDTH = 64


def value_function(log: dict[str, np.ndarray], updates: int) -> np.ndarray:
    """Q (R, N) of the target by d3rlpy, from standardised rewards and observations."""
    rewards, actions, steps = log["reward"], int(log["actions"]), int(log["steps"])
    mean, deviation = rewards.mean(), rewards.std()
    seen = log["observations"]
    x = ((seen - seen.mean(axis=0)) / np.maximum(seen.std(axis=0), 1e-6)).astype(np.float32)
    x[:, -actions:] = (seen[:, -actions:] - seen[:, -actions:].mean()) / seen[:, -actions:].std()
    ends = np.arange(1, len(rewards) + 1) % steps == 0
    dataset = d3rlpy.dataset.MDPDataset(
        x,
        log["action"][:, None],
        ((rewards - mean) / deviation)[:, None].astype(np.float32),
        ends.astype(np.float32),
        action_space=d3rlpy.constants.ActionSpace.DISCRETE,
        action_size=actions,
    )
    target: Any = d3rlpy.algos.DQNConfig().create(device="cpu:0")
    target.build_with_dataset(dataset)
    target.impl.predict_best_action = lambda now: now[:, -actions:].argmax(dim=1)
    config = d3rlpy.ope.FQEConfig(
        learning_rate=1e-3,
        batch_size=512,
        gamma=1.0,
        encoder_factory=d3rlpy.models.VectorEncoderFactory([WIDTH, WIDTH]),
    )
    judge = d3rlpy.ope.DiscreteFQE(target, config, device="cpu:0")
    judge.fit(
        dataset,
        n_steps=updates,
        n_steps_per_epoch=updates,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    values = [judge.predict_value(x, np.full((len(x), 1), action)) for action in range(actions)]
    left = steps - np.arange(len(rewards)) % steps
    return np.column_stack(values) * deviation + mean * left[:, None]


if __name__ == "__main__":
    torch.set_num_threads(1)
    d3rlpy.seed(0)
    with np.load(sys.argv[1]) as stored:
        logs = dict(stored)
    shown = np.eye(int(logs["actions"]))[logs["best"]]
    given = {
        "step_per_trajectory": int(logs["steps"]),
        "action": logs["action"],
        "reward": logs["reward"],
        "pscore": logs["pscore"][:, 0],
        "evaluation_policy_action_dist": shown,
        "gamma": 1.0,
    }
    begun = time.perf_counter()
    found = {
        "ips": discrete.PerDecisionImportanceSampling().estimate_policy_value(**given),
        "snips": discrete.SelfNormalizedPDIS().estimate_policy_value(**given),
    }
    weighted = time.perf_counter() - begun
    begun = time.perf_counter()
    given["state_action_value_prediction"] = value_function(logs, int(sys.argv[2]))
    found["dm"] = discrete.DirectMethod().estimate_policy_value(**given)
    found["dr"] = discrete.DoublyRobust().estimate_policy_value(**given)
    modelled = time.perf_counter() - begun
    values = {name: float(value) for name, value in found.items()}
    print(json.dumps({"values": values, "weighted": weighted, "modelled": modelled}))
