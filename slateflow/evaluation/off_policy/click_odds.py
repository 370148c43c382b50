"""Values of sessions by the log-odds of clicks, where these explain held-out visitors better.

What makes a click likelier adds up in log-odds more often than in probabilities: of two things
that users like, each matters more where the other is there. A polynomial of a low degree is right
on the average of what was logged, and too high or too low for a policy that shows what was seldom.
Values are linear in the user and the probability of a click then. Weights are still learnt of the
polynomial, and correct what it would have explained and log-odds do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from slateflow.user_models.held_out_choice import BEYOND_CHANCE, better, ridge_weights

Array = NDArray[np.float64]

PRECISION = 1.0
"""Of the prior on the weights of standardised monomials."""

ITERATIONS = 100
"""Newton steps, at most; some eight are taken."""


@dataclass(frozen=True)
class ClickOdds:
    """A logistic regression of clicks.

    Attributes:
        weights: (L,) of the log-odds.
        products: (P,) which of the monomials they weigh, L.
        known: (P,) which monomials are the user's alone.
        first: (P,) which of these are of degree 1 at most.
    """

    weights: Array
    products: NDArray[np.bool_]
    known: NDArray[np.bool_]
    first: NDArray[np.bool_]

    @classmethod
    def fit(cls, design: Array, click: Array, *which: NDArray[np.bool_]) -> ClickOdds:
        """Fit on rows (R, P), whose `click` (R,) is 0 or 1 and has both."""
        from sklearn.linear_model import LogisticRegression  # takes a second

        model = LogisticRegression(
            C=1 / PRECISION, fit_intercept=False, solver="newton-cholesky", max_iter=ITERATIONS
        )
        return cls(np.asarray(model.fit(design[:, which[0]], click).coef_[0]), *which)

    def features(self, design: Array) -> Array:
        """(R, Q) of the user alone, and products of these and the probability of a click."""
        probability = special.expit(design[:, self.products] @ self.weights)
        of_click = probability[:, None] * design[:, self.first]
        return np.concatenate([design[:, self.known], of_click], axis=1)


def chosen_odds(
    design: Array, click: Array, ends: Array, visitor: NDArray[np.intp], *which: NDArray[np.bool_]
) -> ClickOdds | None:
    """Log-odds, if those of one half of the visitors explain more in the other than monomials do.

    Args:
        design: (R, P) monomials of what was shown.
        click: (R,) 0 or 1.
        ends: (R,) whether the session has no further step.
        visitor: (R,) numbers of the visitors.
        which: Three times (P,), see `ClickOdds`.
    """
    explained, half = np.column_stack([click, ends]).astype(np.float64), visitor % 2 == 0
    if any(len(np.unique(click[one])) < 2 for one in (half, ~half)):
        return None
    lost = np.empty((2, len(click)))
    for out in (half, ~half):
        odds = ClickOdds.fit(design[~out], click[~out], *which)
        for number, x in enumerate((design, odds.features(design))):
            weights = ridge_weights(x[~out].T @ x[~out], x[~out].T @ explained[~out])
            lost[number, out] = np.square(explained[out] - x[out] @ weights).sum(axis=1)
    plain, ours = (np.bincount(visitor, one).astype(np.float64) for one in lost)
    return ClickOdds.fit(design, click, *which) if better(plain, ours, BEYOND_CHANCE) else None
