"""Polynomials of logged features, for regressions by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb

import numpy as np
from numpy.typing import NDArray

from slateflow.policies.scorer import monomials
from slateflow.policies.slate_choice import RandomFeatures
from slateflow.user_models.random_features import none
from slateflow.user_models.splines import Knots

Array = NDArray[np.float64]

MOST_PRODUCTS = 3_000
"""Most products of user and candidate in polynomials of degree 1."""

KNOTS = (3, 7, 15)
"""Numbers of knots per feature that are tried."""

MOST_BENT = 200
"""Most terms of a polynomial with its hinges."""


DEPENDENT = 1e-8
"""Largest share of a dependent feature's squares that earlier features leave unexplained."""


@dataclass(frozen=True)
class Polynomial:
    """Monomials of standardised features and hinges, and random features.

    Outside the range in which it was fitted a polynomial is meaningless, so features are clipped to
    that range.

    Attributes:
        powers: (P, F + H) exponents of the monomials.
        offset: (F + H,) subtracted from features and hinges.
        scale: (F + H,) by which features and hinges are then divided.
        low: (F,) least values.
        high: (F,) largest values.
        knots: Knots at which features bend.
        random: W random features, beside the monomials, of the standardised features and hinges.
    """

    powers: NDArray[np.int64]
    offset: Array
    scale: Array
    low: Array
    high: Array
    knots: Knots
    random: RandomFeatures

    @classmethod
    def over(
        cls,
        x: Array,
        degree: int,
        users: int = 0,
        knots: Knots | None = None,
        random: RandomFeatures | None = None,
        alone: Sequence[int] = (),
    ) -> Polynomial:
        """The polynomial of features (R, F), of which the first `users` are the user's.

        See `powers` for the degree. Features in `alone` also have powers up to the third, without
        products.
        """
        knots = knots or Knots.none()
        features, own = x.shape[1], powers(users, x.shape[1] - users, degree)
        unit = np.eye(features, dtype=np.int64)[list(alone)]
        own = np.concatenate([own, *(unit * power for power in range(degree + 1, 4))])
        own = np.pad(own, ((0, 0), (0, len(knots.feature))))
        bent = np.concatenate([x, knots.hinges(x)], axis=1)
        deviation = bent.std(axis=0)
        return cls(
            np.concatenate([own, knots.powers(users, features)]),
            bent.mean(axis=0),
            np.where(deviation > 0, deviation, 1.0),
            x.min(axis=0),
            x.max(axis=0),
            knots,
            random or none(bent.shape[1]),
        )

    def __len__(self) -> int:
        return len(self.powers) + len(self.random)

    def design(self, x: Array) -> Array:
        """(R, P + W) monomials and random features of the features (R, F).

        Example:
            >>> seen = np.array([[-1.0], [1.0]])
            >>> Polynomial.over(seen, 2).design(np.array([[0.5], [3.0]])).tolist()
            [[1.0, 0.5, 0.25], [1.0, 1.0, 1.0]]
        """
        x = np.clip(x, self.low, self.high)
        x = np.concatenate([x, self.knots.hinges(x)], axis=1)
        x = (x - self.offset) / self.scale
        found = monomials(x, self.powers)
        return np.concatenate([found, self.random.of(x)], axis=1) if len(self.random) else found

    def degrees(self, users: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(P,) degrees of the monomials in the user, whose features come first, and candidate."""
        of_user = np.append(np.arange(len(self.low)), self.knots.feature) < users
        return self.powers[:, of_user].sum(axis=1), self.powers[:, ~of_user].sum(axis=1)


def bends(x: Array, degree: int, users: int, own: int) -> list[tuple[int, Knots]]:
    """Degrees and knots to try in place of a polynomial: few knots first, until terms are too many.

    Beside hinges, which are squares, the degree is at most 2, or 1 where terms are too many.

    Args:
        x: (R, F) features, the first `users` of them the user's.
        degree: Degree of the polynomial.
        users: Number of the user's features.
        own: Number of these that are the user's own; the session memory has no knots, because bends
            in it would be determined at the edge of the data.
    """
    found = []
    for count in KNOTS:
        knots = Knots.at_quantiles(x, count).without(slice(own, users))
        left = MOST_BENT - knots.term_count(users, x.shape[1])
        degrees = [
            one
            for one in range(min(degree, 2), 0, -1)
            if term_count(users, x.shape[1] - users, one) <= left
        ]
        if not len(knots.feature) or not degrees:
            break
        found.append((degrees[0], knots))
    return found


def independent(design: Array) -> NDArray[np.bool_]:
    """(P,) which features are linearly independent of those before them, in rows (R, P).

    Where columns are categories most monomials are dependent: powers of indicators are the
    indicators themselves, products of two are 0, and together they add up to 1.

    Example:
        >>> one, other = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.3, 0.1, 0.2, 0.4])
        >>> independent(np.column_stack([one**0, one, 1 - one, one**2, other])).tolist()
        [True, True, False, False, True]
    """
    gram = design.T @ design
    size = np.sqrt(np.diag(gram))
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    left = scale[:, None] * gram * scale
    kept = np.zeros(len(left), np.bool_)
    for number in range(len(left)):
        if left[number, number] > DEPENDENT:
            kept[number] = True
            left -= np.outer(left[:, number], left[number]) / left[number, number]
    return kept


def terms(features: int, degree: int) -> list[tuple[int, ...]]:
    """The monomials, each as the tuple of features that it multiplies.

    Example:
        >>> terms(2, 2)
        [(), (0,), (1,), (0, 0), (0, 1), (1, 1)]
    """
    return [
        powers
        for size in range(degree + 1)
        for powers in combinations_with_replacement(range(features), size)
    ]


def powers(users: int, documents: int, degree: int) -> NDArray[np.int64]:
    """(P, U + D) exponents of the monomials of a user and a candidate up to a degree.

    For degree 1 they are the products of (1, user) and (1, candidate): without products all users
    would like the same candidates.

    Example:
        >>> powers(1, 1, 1).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    unit = np.eye(users + documents, dtype=np.int64)
    if degree == 1:
        of_user = np.insert(unit[:users], 0, 0, axis=0)
        of_candidate = np.insert(unit[users:], 0, 0, axis=0)
        return (of_user[:, None] + of_candidate[None]).reshape(-1, users + documents)
    found = [unit[list(chosen)].sum(axis=0) for chosen in terms(users + documents, degree)]
    return np.array(found, dtype=np.int64).reshape(-1, users + documents)


def term_count(users: int, documents: int, degree: int) -> int:
    """Number of rows of `powers`, without computing them.

    Example:
        >>> term_count(2, 3, 1), term_count(2, 3, 4)
        (12, 126)
    """
    if degree == 1:
        return (1 + users) * (1 + documents)
    return comb(users + documents + degree, degree)
