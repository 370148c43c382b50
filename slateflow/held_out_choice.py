"""The choice among models by their losses on held-out episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Model = TypeVar("Model")

RIDGE_SHARE = 1e-6
"""Precision of the prior on a regression's weight, as a share of the rows' information on it."""

LOSS_ROUNDING = 1e-12
"""Share of the losses below which a difference counts as 0."""

BEYOND_CHANCE, BEYOND_DOUBT = 2.0, 3.0
"""Standard errors by which losses of held-out visitors have to be below those of the plain model;
more where a choice by chance would do harm."""

LEAST_ERROR = 1e-6
"""Squared errors, in variances, below which regressions are equally good."""

LEAST_SESSIONS = 10
"""Fewest sessions: with fewer only the plain model is used."""


def simplest(losses: Mapping[Model, NDArray[np.float64]]) -> Model:
    """The first model that loses no more than the best, within a standard error.

    Args:
        losses: (E,) losses of the held-out episodes by model, the simplest model first.
    """
    least = min(losses.values(), key=np.sum)
    return next(model for model, ours in losses.items() if not better(ours, least, 1.0))


def better(plain: NDArray[np.float64], ours: NDArray[np.float64], standard_errors: float) -> bool:
    """True if held-out losses are less than a plain model's, beyond chance and rounding.

    Args:
        plain: (E,) losses of the plain model.
        ours: (E,) losses of the other model.
        standard_errors: Standard errors by which losses have to be less.

    Example:
        >>> plain = np.array([1.0, 1.1, 0.9])
        >>> better(plain, np.array([0.5, 0.7, 0.3]), 2.0), better(plain, plain - 1e-15, 2.0)
        (True, False)
    """
    gain, rounding = plain - ours, LOSS_ROUNDING * float(np.abs(plain).sum())
    return bool(gain.sum() > standard_errors * gain.std() * np.sqrt(len(gain)) + rounding)


def least_lost(
    plain: Model, options: Sequence[Model], losses: Callable[[Model], NDArray[np.float64]]
) -> Model:
    """The option with which held-out visitors lose least, if one is better than the plain model.

    Args:
        plain: The model to keep if no option is better.
        options: A few models; without any the plain model is kept.
        losses: Losses (L, E) or (E,) of the episodes in L targets; a model is better if it is in
            one of these.
    """
    if not options:
        return plain
    without, found = np.atleast_2d(losses(plain)), [np.atleast_2d(losses(one)) for one in options]
    pairs = [pair for ours in found for pair in zip(without, ours, strict=True)]
    if not any(better(one, other, BEYOND_CHANCE) for one, other in pairs):
        return plain
    return options[int(np.argmin([ours.sum() for ours in found]))]


def ridge_weights(gram: NDArray[np.float64], moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (P, …) by least squares, from Σ x xᵀ (P, P) and Σ x yᵀ (P, …), on any scale.

    Example:
        >>> x = np.array([[1.0, 1e6], [1.0, 2e6], [1.0, 4e6]])
        >>> (x @ ridge_weights(x.T @ x, x.T @ np.array([1.0, 2.0, 4.0]))).round(3).tolist()
        [1.0, 2.0, 4.0]
    """
    size = np.sqrt(np.diag(gram))
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    scaled = scale[:, None] * gram * scale + RIDGE_SHARE * np.eye(len(gram))
    of_moment = scale.reshape(-1, *[1] * (moment.ndim - 1))
    return np.asarray(of_moment * np.linalg.solve(scaled, of_moment * moment))


def halves(visitor: NDArray[np.intp]) -> NDArray[np.intp]:
    """(R,) half of the visitors, 0 or 1, for visitors' numbers (R,)."""
    return visitor % 2


def other_half_errors(
    x: NDArray[np.float64], y: NDArray[np.float64], half: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Errors (R, …) of a regression fitted on the other half of the rows.

    Args:
        x: (R, P) features.
        y: (R, …) targets.
        half: (R,) the half to which a row belongs.
    """
    errors = np.empty(y.shape)
    for out in (half, ~half):
        weights = ridge_weights(x[~out].T @ x[~out], x[~out].T @ y[~out])
        errors[out] = y[out] - x[out] @ weights
    return errors


def other_half_losses(
    x: NDArray[np.float64], y: NDArray[np.float64], visitor: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Squared errors (…, V) by visitor, of regressions on the other half of the visitors.

    Args:
        x: (R, P) features.
        y: (R, …) targets.
        visitor: (R,) number of a row's visitor.
    """
    squares = np.square(other_half_errors(x, y, halves(visitor) == 0))
    return np.asarray(np.apply_along_axis(lambda one: np.bincount(visitor, one), 0, squares).T)
