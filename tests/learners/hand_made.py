"""Rows for the losses of the Q-learners."""

from __future__ import annotations

import numpy as np
import torch


def hand_made(rows: int) -> dict[str, torch.Tensor]:
    """A few rows; every other one ends its episode."""
    rng = np.random.default_rng(0)
    return {
        "obs": torch.from_numpy(rng.random((rows, 6), dtype=np.float32)),
        "new_obs": torch.from_numpy(rng.random((rows, 6), dtype=np.float32)),
        "actions": torch.from_numpy(rng.integers(0, 4, rows)),
        "rewards": torch.from_numpy(rng.normal(size=rows).astype(np.float32)),
        "terminateds": torch.arange(rows) % 2 == 1,
        "row_weights": torch.from_numpy(1 + rng.random(rows, dtype=np.float32)),
        "rare": torch.from_numpy(rng.random((rows, 4)) < 0.5),
        "next_left_out": torch.from_numpy(rng.random((rows, 4)) < 0.3),
    }
