"""Values of sessions by the log-odds of clicks, where these explain held-out visitors better.

Causes of a click add up in log-odds more often than in probabilities: of two attributes that users
like, each matters more in the presence of the other. A polynomial of low degree is right on average
over the logs, but too high or too low for a policy that shows items which the logs seldom show. In
that case values are linear in the user and the probability of a click. Weights are still learnt in
the polynomial's features, and correct errors that it would have explained and log-odds do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from slateflow.held_out_choice import BEYOND_CHANCE, better, halves, ridge_weights

Array = NDArray[np.float64]

PRECISION = 1.0
"""Precision of the prior on the weights of standardised monomials."""

ITERATIONS = 100
"""Most Newton steps; about eight are taken."""


@dataclass(frozen=True)
class ClickOdds:
    """Logistic regressions of clicks, each fitted on half of the visitors for the other half.

    The errors of a regression on the rows to which it was fitted add up to 0, so intervals would
    ignore the uncertainty of its weights.

    Attributes:
        weights: (2, L) weights of the log-odds, by the half to which they apply.
        products: (P,) mask of the L monomials that have these weights.
        known: (P,) mask of the monomials of the user alone.
        first: (P,) mask of the `known` monomials with degree 1 at most.
    """

    weights: Array
    products: NDArray[np.bool_]
    known: NDArray[np.bool_]
    first: NDArray[np.bool_]

    def features(self, design: Array, half: NDArray[np.integer]) -> Array:
        """(R, Q) features of the user alone, and their products with the probability of a click.

        Args:
            design: (R, P) monomials of user and shown item.
            half: (R,) 0 or 1, the half of the row's visitor.
        """
        odds = np.einsum("rl,rl->r", design[:, self.products], self.weights[half])
        of_click = special.expit(odds)[:, None] * design[:, self.first]
        return np.concatenate([design[:, self.known], of_click], axis=1)


def chosen_odds(
    design: Array, click: Array, ends: Array, visitor: NDArray[np.intp], *which: NDArray[np.bool_]
) -> ClickOdds | None:
    """Log-odds of clicks, if they predict the other half of the visitors better than monomials do.

    Args:
        design: (R, P) monomials of what was shown.
        click: (R,) 1 for a click, otherwise 0.
        ends: (R,) whether the session ends with this step.
        visitor: (R,) numbers of the visitors.
        which: Three masks (P,): `products`, `known` and `first` of `ClickOdds`.
    """
    explained, half = np.column_stack([click, ends]).astype(np.float64), halves(visitor)
    if any(len(np.unique(click[half == own])) < 2 for own in (0, 1)):
        return None
    found, lost = [], np.empty((2, len(click)))
    for own in (0, 1):
        out, fitted = half == own, half != own
        found.append(_log_odds(design[fitted][:, which[0]], click[fitted]))
        odds = ClickOdds(np.stack([found[-1]] * 2), *which)
        for number, x in enumerate((design, odds.features(design, half))):
            weights = ridge_weights(x[fitted].T @ x[fitted], x[fitted].T @ explained[fitted])
            lost[number, out] = np.square(explained[out] - x[out] @ weights).sum(axis=1)
    plain, ours = (np.bincount(visitor, one).astype(np.float64) for one in lost)
    return ClickOdds(np.stack(found), *which) if better(plain, ours, BEYOND_CHANCE) else None


def _log_odds(x: Array, click: Array) -> Array:
    """(L,) weights of a logistic regression of clicks (R,), 0 or 1, on features (R, L)."""
    from sklearn.linear_model import LogisticRegression  # takes a second

    model = LogisticRegression(
        C=1 / PRECISION, fit_intercept=False, solver="newton-cholesky", max_iter=ITERATIONS
    )
    return np.asarray(model.fit(x, click).coef_[0])
