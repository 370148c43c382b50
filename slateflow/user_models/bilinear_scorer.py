"""Scorers of regressions on the products of (1, user) and (1, candidate)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.policies import Scorer
from slateflow.user_models.bilinear import NO_SQUARES, Squares
from slateflow.user_models.origin import Origin

Array = NDArray[np.float64]


def bilinear_scorer(
    weights: Array,
    spec: EnvironmentSpec,
    squares: Squares = NO_SQUARES,
    origin: Origin | None = None,
) -> Scorer:
    """The weights (P,) of the products as a scorer, which ignores time and place.

    Args:
        weights: Of the products of columns less an origin.
        spec: The world.
        squares: Features whose squares are added.
        origin: None for none.
    """
    users, documents = spec.user_size, spec.document_size
    origin = origin or Origin.none(users, documents)
    powers = np.zeros((0, users + 1 + documents), np.int64)
    if squares.user or squares.candidate:
        powers = _powers(users, documents, squares)
    return Scorer(
        user_size=users,
        slate_size=spec.slate_size,
        horizon=spec.horizon,
        window=1,
        offset=np.concatenate([origin.user, [0.0], origin.candidate]),
        scale=np.ones(users + 1 + documents),
        powers=powers,
        head=weights[None, : len(powers) or (1 + users) * (1 + documents)],
        head_bias=np.zeros(1),
    )


def _powers(users: int, documents: int, squares: Squares) -> NDArray[np.int64]:
    """(P, U + 1 + D) exponents of the products, including squares."""
    exponents = np.eye(1 + users + 1 + documents, dtype=np.int64)
    of_user, of_candidate = exponents[: 1 + users], exponents[1 + users :]
    of_user = np.concatenate([of_user, 2 * of_user[1:][list(squares.user)]])
    of_candidate = np.concatenate([of_candidate, 2 * of_candidate[1:][list(squares.candidate)]])
    powers = (of_user[:, None] + of_candidate[None]).reshape(-1, exponents.shape[1])
    powers = np.delete(powers, 0, axis=1)  # the constant of the user
    powers[:, users] = 0  # the candidate's constant, in the column of the time
    return powers
