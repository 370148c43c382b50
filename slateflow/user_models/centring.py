"""Products of user and candidate with graded columns less their means, for the choice of priors.

A prior in units of a column's usual size suits columns around zero. A depth of 62 ± 1.4 has a size
of 62, so that a prior that allows effects of a 62 forbids those of a deviation; and the constant's
weight depends on that of the column. Priors therefore are of columns less their means, in units of
their standard deviations. Indicators stay as they are, so that rare ones are not rescaled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slateflow.user_models.bilinear import (
    NO_SQUARES,
    LinearStatistics,
    Sizes,
    Squares,
    places_seen,
)
from slateflow.user_models.prior import WeightGroups, chosen_prior

Array = NDArray[np.float64]

ROUNDING = 1e-9
"""Relative difference of sums that is rounding."""

EPSILONS = 10
"""Rounding error of a sum, in units of the machine's precision."""

FAR = 1e5
"""Standard deviations from zero within which columns are centred. Sums of squares have no digits
left for what deviates from a mean beyond it, such as that of a column that hardly varies; where a
column varies, an `Origin` has been taken out."""


@dataclass(frozen=True)
class Centred:
    """A constant, columns and their squares, with means taken out of the columns.

    Attributes:
        change: (F, F) matrix T; T x are the centred features of features x.
        size: (F,) root mean squares of centred features, 1 for indicators.
    """

    change: Array
    size: Array

    @classmethod
    def of(cls, gram: Array, magnitude: Array, squared: tuple[int, ...] = ()) -> Self:
        """Find means and deviations.

        Args:
            gram: (F, F) sums of the products of two features.
            magnitude: (F,) sums of their absolute values.
            squared: Columns whose squares are the last features.
        """
        rows, sums, squares = gram[0, 0], gram[0], np.diag(gram)
        indicators = np.isclose(squares, sums, ROUNDING, 0.0)
        indicators &= np.isclose(magnitude, sums, ROUNDING, 0.0)
        mean = sums / max(rows, 1.0)
        spread = np.sqrt(np.maximum(squares / max(rows, 1.0) - mean**2, 0.0))
        of_squares = 1 + np.asarray(squared, np.intp)
        taken = np.where(indicators | (np.abs(mean) >= FAR * spread), 0.0, mean)
        change = np.eye(len(gram))
        change[1:, 0] = -taken[1:]
        for place, column in enumerate(of_squares, len(gram) - len(squared)):
            change[place, 0] = taken[column] ** 2
            change[place, column] = -2 * taken[column]
        power = np.einsum("ab,bc,ac->a", change, gram, change) / max(rows, 1.0)
        size = np.sqrt(np.maximum(power, 0.0))
        return cls(change, np.where(indicators | (size == 0), 1.0, size))

    @classmethod
    def none(cls, features: int) -> Self:
        """Leave features as they are."""
        return cls(np.eye(features), np.ones(features))

    def centred(self, gram: Array) -> Array:
        """Sums (…, F, F) of the products of two features, of the centred ones.

        What rounding may have left of them is bounded by an addition to the diagonal, so that they
        stay positive definite.
        """
        squares = np.diagonal(gram, axis1=-2, axis2=-1)
        found = self.change @ gram @ self.change.T
        each = np.arange(len(self.size))
        found[..., each, each] += _rounding(np.sqrt(squares) @ np.abs(self.change).T, squares)
        return np.asarray(found)

    @property
    def scaled(self) -> Array:
        """(F, F) the change to centred features in units of their sizes."""
        return self.change / self.size[:, None]

    @property
    def inverse(self) -> Array:
        """(F, F) the change back."""
        return np.asarray(np.linalg.inv(self.change), np.float64)


@dataclass(frozen=True)
class Centring:
    """A change of the features φ (P,) of a bilinear regression to products of centred ones.

    Attributes:
        user: Of (1, user), squares included.
        candidate: Of (1, candidate).
        places: Number of places but the first, whose indicators stay as they are.
    """

    user: Centred
    candidate: Centred
    places: int

    @classmethod
    def of(cls, statistics: LinearStatistics, spec: Sizes, squares: Squares = NO_SQUARES) -> Self:
        """Find means and deviations in the statistics of a regression."""
        users = 1 + spec.user_size + len(squares.user)
        documents = 1 + spec.document_size + len(squares.candidate)

        def alone(index: NDArray[np.intp], squared: tuple[int, ...]) -> Centred:
            gram = statistics.gram[np.ix_(index, index)]
            return Centred.of(gram, statistics.magnitude[index], squared)

        return cls(
            alone(documents * np.arange(users), squares.user),
            alone(np.arange(documents), squares.candidate),
            places_seen(spec) - 1,
        )

    def centred(self, statistics: LinearStatistics) -> LinearStatistics:
        """The statistics of the centred features, whose magnitudes give them their sizes."""
        changes = self.user.change, self.candidate.change
        gram = _changed(_changed(statistics.gram, *changes).T, *changes).T
        bound = np.sqrt(np.diag(statistics.gram))[:, None]
        bound = _changed(bound, *(np.abs(change) for change in changes))[:, 0]
        gram += np.diag(_rounding(bound, np.diag(statistics.gram)))
        size = np.append(np.outer(self.user.size, self.candidate.size), np.ones(self.places))
        return replace(
            statistics,
            gram=gram,
            moment=_changed(statistics.moment[:, None], *changes)[:, 0],
            magnitude=np.diag(gram) / size,
        )

    def prior(self, precision: Array) -> Array:
        """The precision (P, P) of the weights, from that of the centred features' weights."""
        user, candidate = self.user.inverse, self.candidate.inverse
        return _changed(_changed(precision, user, candidate).T, user, candidate).T


def _rounding(bound: Array, squares: Array) -> Array:
    """Bounds on rounding errors of centred sums of squares; 0 where nothing was taken out.

    Args:
        bound: (…, F) sums of the roots of the squares that a feature was made of.
        squares: (…, F) sums of the squares before.
    """
    share = EPSILONS * np.finfo(np.float64).eps * bound.shape[-1]
    return np.asarray(share * np.maximum(np.square(bound) - squares, 0.0))


def _changed(values: Array, of_user: Array, of_candidate: Array) -> Array:
    """(P, Q) values, with changes of the factors applied to the first axis."""
    users, documents = len(of_user), len(of_candidate)
    products, places = np.split(values, [users * documents])
    wide = products.reshape(users, documents, -1)
    found = np.einsum("ua,cb,abq->ucq", of_user, of_candidate, wide, optimize=True)
    return np.concatenate([found.reshape(users * documents, -1), places])


def bilinear_prior(
    statistics: LinearStatistics,
    spec: Sizes,
    squares: Squares = NO_SQUARES,
    noise: float | None = None,
) -> Array:
    """Precision (P, P) of the prior of a bilinear regression, as of `chosen_prior`.

    Where users are observed in the features of candidates, both are taken as they are: the affinity
    is a sum of products that belong together.
    """
    groups = WeightGroups.of(spec, squares)
    if spec.features_match:
        return chosen_prior(statistics, groups, noise)
    centring = Centring.of(statistics, spec, squares)
    return centring.prior(chosen_prior(centring.centred(statistics), groups, noise))
