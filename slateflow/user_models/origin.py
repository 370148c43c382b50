"""Columns less an origin that is near them.

Squares of years or of timestamps hardly differ from the columns themselves, and sums of them have
no digits left for what deviates from the mean. So columns that are far from zero are taken less an
origin, before they are squared, multiplied or summed up. All others stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slateflow.shared_rows import distinct, for_rows
from slateflow.trajectories import Trajectories
from slateflow.trajectories.catalogue import Catalogue

Array = NDArray[np.float64]

FAR = 10.0
"""Distance of a column's middle from zero, in units of its range, from which it is far. Nearer ones
have enough digits."""


@dataclass(frozen=True)
class Ranges:
    """Ranges of columns.

    Attributes:
        low: (F,) least values.
        high: (F,) greatest values.
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, x: NDArray[np.floating]) -> Self:
        """The ranges of columns (…, F)."""
        x, rows = distinct(x), tuple(range(x.ndim - 1))
        low, high = x.min(axis=rows, initial=np.inf), x.max(axis=rows, initial=-np.inf)
        return cls(low.astype(np.float64), high.astype(np.float64))

    @property
    def origin(self) -> Array:
        """(F,) a number near each column, or 0 for columns that are not far from zero.

        It is a multiple of a power of two, so that later days have the same.

        Example:
            >>> Ranges(np.array([0.0, 1990.0, 5.0]), np.array([1.0, 2024.0, 5.0])).origin
            array([   0., 1984.,    0.])
        """
        with np.errstate(invalid="ignore"):  # infinite values are refused elsewhere
            width, middle = self.high - self.low, (self.low + self.high) / 2
            far = (width > 0) & (np.abs(middle) >= FAR * width) & np.isfinite(middle)
        grid = np.exp2(np.ceil(np.log2(np.where(far, width, 1.0))))
        return np.where(far, np.round(np.where(far, middle, 0.0) / grid) * grid, 0.0)

    @property
    def origin_of_some(self) -> Array:
        """(F,) the origin of a part of the rows: what is the same in it may vary in others."""
        same = (self.low == self.high) & (self.low != 0) & (self.low != 1)
        return np.where(same & np.isfinite(self.low), self.low, self.origin)


@dataclass(frozen=True, eq=False)
class Origin:
    """Numbers that are subtracted from the columns of users (U,) and of candidates (D,)."""

    user: Array
    candidate: Array

    @classmethod
    def none(cls, user_size: int, document_size: int) -> Self:
        """Subtract nothing."""
        return cls(np.zeros(user_size), np.zeros(document_size))

    @classmethod
    def of(cls, rows: Trajectories, features_match: bool) -> Self:
        """The origin of a part's rows; none where users are observed in candidates' features."""
        items = rows.candidates if rows.catalogue is None else rows.catalogue.features
        if features_match:
            return cls.none(rows.user.shape[1], items.shape[-1])
        return cls(Ranges.of(rows.user).origin_of_some, Ranges.of(items).origin)

    def __bool__(self) -> bool:
        return bool(self.user.any() or self.candidate.any())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin) and all(
            map(np.array_equal, (self.user, self.candidate), (other.user, other.candidate))
        )

    __hash__ = None  # type: ignore[assignment]

    def changes(self, wanted: Origin) -> tuple[Array, Array]:
        """Matrices that turn (1, user) and (1, candidate) less this origin into those less another.

        Example:
            >>> Origin(np.array([1984.0]), np.zeros(0)).changes(Origin.none(1, 0))[0].tolist()
            [[1.0, 0.0], [1984.0, 1.0]]
        """
        of_user, of_candidate = (np.eye(1 + len(own)) for own in (self.user, self.candidate))
        of_user[1:, 0] = self.user - wanted.user
        of_candidate[1:, 0] = self.candidate - wanted.candidate
        return of_user, of_candidate

    def taken_back(self, weights: Array) -> Array:
        """Weights ((1 + U) (1 + D),) of columns as they are, from those of columns less this."""
        none = Origin.none(len(self.user), len(self.candidate))
        of_user, of_candidate = none.changes(self)
        products = weights.reshape(len(of_user), len(of_candidate))
        return np.asarray((of_user.T @ products @ of_candidate).ravel())

    def less(self, rows: Trajectories) -> Trajectories:
        """The rows, the origin taken out of their columns."""
        if not self:
            return rows
        rows = replace(rows, user=_less(rows.user, self.user))
        if rows.catalogue is not None:
            return replace(rows, catalogue=self.less_of_items(rows.catalogue))
        candidates = _less(distinct(rows.candidates), self.candidate)
        return replace(rows, candidates=for_rows(candidates, len(rows)))

    def less_of_items(self, catalogue: Catalogue) -> Catalogue:
        """The items, the origin taken out of their features."""
        if not self.candidate.any():
            return catalogue
        return Catalogue(_less(catalogue.features, self.candidate))


def _less(x: NDArray[np.float32], origin: Array) -> NDArray[np.float32]:
    """Columns less an origin; exact in single precision, as both are of about the same size."""
    return x - origin.astype(np.float32)


def moved_pairs(pairs: Array, change: Array, index: NDArray[np.intp]) -> Array:
    """(Q, …) sums of products of pairs, of the changed features.

    Args:
        pairs: (Q, …) sums of the features.
        change: (F, F) of features.
        index: (F, F) number of each pair.
    """
    found = np.einsum("ac,bd,cd...->ab...", change, change, pairs[index], optimize=True)
    one, other = np.triu_indices(len(change))
    return np.asarray(found[one, other])
