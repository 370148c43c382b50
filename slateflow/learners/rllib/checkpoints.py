"""Checkpoints from which a killed training resumes and ends in the same weights.

RLlib's own checkpoints leave out MARWIL's moving average, the state of the random generator and the
position in the data, and restoring an algorithm without an environment fails. So this module saves
and restores these parts itself, in one file that replaces the last one in a single step.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner

from slateflow.learners.config import Curves, LearnerConfig
from slateflow.trajectories import Dataset
from slateflow.trajectories.files.atomic_files import write_whole

STATE = "state.pt"

MOVING_AVERAGE = "moving_avg_sqd_adv_norms_per_module"
"""MARWIL's average squared advantage, a private attribute of its learner."""


@dataclass
class TrainingProgress:
    """The progress of a training.

    Attributes:
        iterations: Completed calls of `train()`.
        seconds: Wall-clock seconds spent in these calls.
        curves: Training curves so far.
    """

    iterations: int = 0
    seconds: float = 0.0
    curves: Curves = field(default_factory=Curves)


@dataclass(frozen=True)
class Checkpoint:
    """The folder of a training's checkpoint."""

    folder: Path

    @classmethod
    def for_training(
        cls, folder: Path, dataset: Dataset, config: LearnerConfig, seed: int
    ) -> Checkpoint:
        """The checkpoint of a training; each dataset, setting and seed has its own."""
        return cls(config.checkpoint(folder, dataset, seed))

    def save(self, algorithm: Algorithm, done: TrainingProgress) -> None:
        """Write everything on which the rest of the training depends."""
        document = {
            "done": vars(done),
            "metrics": algorithm.metrics.get_state(),
            "learners": [state.get() for state in algorithm.learner_group.foreach_learner(_state)],
        }
        content = io.BytesIO()
        torch.save(document, content)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / STATE, content.getvalue())

    def restore(self, algorithm: Algorithm) -> TrainingProgress:
        """Bring a fresh algorithm to the last checkpoint; without one, report no progress."""
        path = self.folder / STATE
        if not path.exists():
            return TrainingProgress()
        document = torch.load(path, weights_only=False)  # our own, on our own disk
        done = TrainingProgress(**document["done"])
        algorithm.metrics.set_state(document["metrics"])
        algorithm.learner_group.foreach_learner(_put_back, states=document["learners"])
        updates = done.iterations * algorithm.config.dataset_num_iters_per_learner
        algorithm.offline_data.start_after(updates)
        return done

    def remove(self) -> None:
        """Remove the checkpoint at the end of the training."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _state(learner: Learner) -> dict[str, Any]:
    extra = getattr(learner, MOVING_AVERAGE, {})
    return {
        # RLlib would round the weights to single precision
        "weights": learner.module[DEFAULT_MODULE_ID].unwrapped().state_dict(),
        "learner": learner.get_state(not_components=COMPONENT_RL_MODULE),
        "random": torch.get_rng_state(),
        MOVING_AVERAGE: {module: value.item() for module, value in extra.items()},
    }


def _put_back(learner: Learner, states: list[dict[str, Any]]) -> None:
    state = states[learner._learner_index]
    learner.module[DEFAULT_MODULE_ID].unwrapped().load_state_dict(state["weights"])
    learner.set_state(state["learner"])
    for module, value in state[MOVING_AVERAGE].items():
        getattr(learner, MOVING_AVERAGE)[module] = torch.tensor(value)
    torch.set_rng_state(state["random"])
