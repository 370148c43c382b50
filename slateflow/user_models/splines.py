"""Quadratic splines, by which values bend at knots, such as a taste that peaks at an age.

A polynomial of low degree, or the products of a user's and an item's columns, hardly fit such
values. Hinges (x − knot)₊² do, in products with the features of the other side, so that a taste
bends item by item (Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning",
section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.scorer import hinges

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Knots:
    """Values at which features bend.

    Attributes:
        feature: (H,) number of the feature, ascending.
        value: (H,) value at which the feature bends.
    """

    feature: NDArray[np.intp]
    value: Array

    @classmethod
    def none(cls) -> Self:
        """No knots."""
        return cls(np.zeros(0, np.intp), np.zeros(0))

    @classmethod
    def at_quantiles(cls, x: Array, count: int) -> Self:
        """A knot at the least value of each feature (R, F), and up to `count` at its quantiles.

        A feature of two values has none.

        Example:
            >>> seen = np.column_stack([np.arange(5.0), [0, 0, 1, 1, 1]])
            >>> knots = Knots.at_quantiles(seen, 3)
            >>> knots.feature.tolist(), knots.value.tolist()
            ([0, 0, 0, 0], [0.0, 1.0, 2.0, 3.0])
        """
        levels = np.linspace(0, 1, count + 2)[:-1]
        every = np.quantile(x, levels, axis=0, method="nearest").T
        found = [
            np.unique(values[values < top])
            for values, top in zip(every, x.max(axis=0), strict=True)
        ]
        found = [values if len(values) > 1 else values[:0] for values in found]
        feature = np.repeat(np.arange(len(found)), [len(values) for values in found])
        return cls(feature, np.concatenate([np.zeros(0), *found]))

    def without(self, features: slice) -> Knots:
        """The knots of features outside of a slice."""
        kept = ~np.isin(self.feature, np.arange(features.start, features.stop))
        return Knots(self.feature[kept], self.value[kept])

    def hinges(self, x: Array) -> Array:
        """(…, H) squares of the excess of features (…, F) over the knots.

        Example:
            >>> Knots(np.array([0]), np.array([2.0])).hinges(np.array([[1.0], [5.0]])).tolist()
            [[0.0], [9.0]]
        """
        return hinges(x, self.feature, self.value)

    def powers(self, users: int, features: int) -> NDArray[np.int64]:
        """(P, F + H) exponents of the products of hinges and the features of the other side.

        A hinge of the user comes alone, with each feature of the candidate and with each hinge of
        the candidate; a hinge of the candidate comes alone, and with each feature of the user.

        Example:
            >>> Knots(np.array([0]), np.array([2.0])).powers(1, 2).tolist()
            [[0, 0, 1], [0, 1, 1]]
        """
        unit = np.eye(features + len(self.feature), dtype=np.int64)
        hinges, nothing = unit[features:], np.zeros_like(unit[:1])
        of_user, of_candidate = hinges[self.feature < users], hinges[self.feature >= users]
        with_user = np.concatenate([nothing, unit[users:features], of_candidate])
        with_candidate = np.concatenate([nothing, unit[:users]])
        pairs = [
            (hinges[:, None] + others[None]).reshape(-1, len(unit))
            for hinges, others in ((of_user, with_user), (of_candidate, with_candidate))
        ]
        return np.concatenate(pairs)

    def term_count(self, users: int, features: int) -> int:
        """Number of rows of `powers`, without computing them."""
        of_user = int(np.count_nonzero(self.feature < users))
        of_candidate = len(self.feature) - of_user
        return of_user * (1 + features - users + of_candidate) + of_candidate * (1 + users)
