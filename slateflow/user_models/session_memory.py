"""Session memory: a summary of the earlier steps, where the user's state is hidden.

The memory is that of `Scorer`: for each decay a sum over the earlier steps of the clicked
candidate's features and of the reward, in which a step weighs `decay` times as much as the one
after it. An exponentially fading sum follows a hidden state that itself fades, as satisfaction
does. The reward counts by its inverse hyperbolic sine, which is its logarithm where it is large and
has both signs (Burbidge, Magee and Robb 1988, "Alternative Transformations to Handle Extreme Values
of the Dependent Variable"): a single long watch time would outweigh a session otherwise.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.schema import Trajectories

Array = NDArray[np.float64]

FITTING_ROWS = 100_000
"""Rows that a decay is chosen from, at most."""


def memory_size(document_size: int, decays: tuple[float, ...]) -> int:
    """M, numbers that are remembered."""
    return len(decays) * (document_size + 1)


def session_memory(rows: Trajectories, decays: tuple[float, ...]) -> Array:
    """The memory (R, M) before each step."""
    from scipy import signal  # takes long to import

    events = np.column_stack([rows.clicked_features(), np.arcsinh(rows.reward)]).astype(np.float64)
    starts, session = rows.starts, rows.sessions
    place = np.arange(len(rows)) - starts[session]
    padded = np.zeros((len(starts), place.max(initial=0) + 1, events.shape[1]))
    padded[session, place] = events
    fading = [signal.lfilter([0.0, 1.0], [1.0, -decay], padded, axis=1) for decay in decays]
    memory: Array = np.concatenate([f[session, place] for f in fading], axis=1)
    return memory


def with_session_memory(rows: Trajectories, decays: tuple[float, ...]) -> Trajectories:
    """The rows with the memory as further features of the user, (R, U + M)."""
    if not decays or not len(rows):
        return rows
    memory = session_memory(rows, decays).astype(np.float32)
    return dataclasses.replace(rows, user=np.concatenate([rows.user, memory], axis=1))


def fitting_decays(dataset: Dataset) -> tuple[float, ...]:
    """The decay whose memory predicts the rewards of held-out episodes best.

    None where the user is observed, or sessions have a single step.
    """
    from scipy import optimize  # takes long to import

    if dataset.spec.user_size or dataset.spec.horizon == 1:
        return ()
    parts, count = [], 0
    for rows in dataset.iter_parts():
        parts.append(rows)
        count += len(rows)
        if count >= FITTING_ROWS:
            break
    if not any(len(rows) for rows in parts):
        raise InputError("dataset: expected rows to train from, got none")
    found = optimize.minimize_scalar(
        lambda decay: sum(_held_out_error(rows, float(decay)) for rows in parts),
        bounds=(0.0, 0.99),
        method="bounded",
        options={"xatol": 0.005},
    )
    return (round(float(found.x), 3),)


def _held_out_error(rows: Trajectories, decay: float) -> float:
    """Squared error on every other episode of a quadratic fit to the rest.

    Of the logarithm where all rewards are positive, as watch times are skewed.
    """
    clicked = rows.clicked >= 0
    x = np.column_stack([session_memory(rows, (decay,)), rows.clicked_features()])[clicked]
    x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    first, second = np.triu_indices(x.shape[1])
    design = np.column_stack([np.ones(len(x)), x, x[:, first] * x[:, second]])
    target = rows.reward[clicked].astype(np.float64)
    target = np.log(target) if (target > 0).all() else target
    fitted = rows.episode[clicked] % 2 == 0
    weights = np.linalg.lstsq(design[fitted], target[fitted], rcond=None)[0]
    return float(np.square(target[~fitted] - design[~fitted] @ weights).sum())
