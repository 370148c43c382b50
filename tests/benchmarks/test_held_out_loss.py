"""The held-out loss of `bc` after 400, 800 and 1,600 updates: whether it could stop early."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from slateflow.learners.rllib.bc import BCConfig
from slateflow.learners.rllib.checkpoints import TrainingProgress
from slateflow.learners.rllib.input import train_columns
from slateflow.learners.rllib.network_config import UPDATES_PER_ITERATION
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.learners.rllib.training import algorithm_config, iterate, trained_module
from slateflow.trajectories import Folder, Recipe, generate
from slateflow.user_models.session_memory import fitting_memory

HALF = {"random": 0.5, "greedy": 0.5}
LOGS = {
    "2,000 episodes": (2_000, HALF),
    "150 episodes": (150, HALF),
    "30 episodes": (30, HALF),
    "500 episodes of greedy alone": (500, {"greedy": 1.0}),
}
POINTS = (400, 800, 1_600)


class _HoldsOut(BCConfig):
    """`bc` without the held-out episodes."""

    holds_out = True  # type: ignore[assignment]


@pytest.mark.benchmark
@pytest.mark.timeout(1_200)
@pytest.mark.filterwarnings("ignore")
def test_held_out_loss_of_imitation(tmp_path, capsys):
    lines = [f"| logs | {' | '.join(f'{point:,}' for point in POINTS)} | least at |", "|---" * 5]
    for name, (episodes, shares) in LOGS.items():
        recipe = Recipe(f"{episodes}", "modified-lts-20-2", episodes, 0, shares)
        dataset = generate(recipe, Folder(str(tmp_path)))
        rows = dataset.read()
        held = rows.where(dataset.hold_out.mask(rows))
        config = _HoldsOut(updates=POINTS[-1])
        columns = train_columns(
            fitting_memory(dataset).beside_users(held), dataset.spec, config.window
        )
        losses, done = [], TrainingProgress()
        with quiet_rllib():
            torch.manual_seed(0)
            algorithm = algorithm_config(dataset, config, 0).build_algo()
            while done.iterations < config.iterations:
                iterate(algorithm, done)
                module = trained_module(algorithm)
                with torch.no_grad():
                    scores = module.score(module.scorer, columns[Columns.OBS])
                    loss = torch.nn.functional.cross_entropy(scores, columns[Columns.ACTIONS])
                losses.append(loss.item())
            algorithm.stop()
        at = [losses[point // UPDATES_PER_ITERATION - 1] for point in POINTS]
        least = UPDATES_PER_ITERATION * (1 + int(np.argmin(losses)))
        lines.append(f"| {name} | {' | '.join(f'{loss:.4f}' for loss in at)} | {least:,} |")
    with capsys.disabled():
        print("", *lines, sep="\n")
