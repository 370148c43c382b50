"""Values of sessions by the log-odds of clicks, where these explain held-out visitors better.

Causes of a click add up in log-odds more often than in probabilities: of two things that users
like, each matters more where the other is there. A polynomial of a low degree is right on the
average of the logs, and too high or too low for a policy that shows items which these show seldom.
Values are linear in the user and the probability of a click then. Weights are still learnt of the
polynomial, and correct errors that it would have explained and log-odds do not.
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
"""Newton steps, at most; some eight are taken."""


@dataclass(frozen=True)
class ClickOdds:
    """Logistic regressions of clicks, each fitted on half of the visitors for the other half.

    The errors of one that was fitted on the same rows add up to nothing, and intervals would leave
    out that its weights are uncertain.

    Attributes:
        weights: (2, L) of the log-odds, by the half that they are for.
        products: (P,) which of the monomials they weigh, L.
        known: (P,) which monomials are the user's alone.
        first: (P,) which of these are of degree 1 at most.
    """

    weights: Array
    products: NDArray[np.bool_]
    known: NDArray[np.bool_]
    first: NDArray[np.bool_]

    def features(self, design: Array, half: NDArray[np.integer]) -> Array:
        """(R, Q) of the user alone, and products of these and the probability of a click.

        Args:
            design: (R, P) monomials of what is shown.
            half: (R,) 0 or 1, that of the visitor.
        """
        odds = np.einsum("rl,rl->r", design[:, self.products], self.weights[half])
        of_click = special.expit(odds)[:, None] * design[:, self.first]
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
    """(L,) weights of a logistic regression of clicks (R,), 0 and 1, on features (R, L)."""
    from sklearn.linear_model import LogisticRegression  # takes a second

    model = LogisticRegression(
        C=1 / PRECISION, fit_intercept=False, solver="newton-cholesky", max_iter=ITERATIONS
    )
    return np.asarray(model.fit(x, click).coef_[0])
