"""Weights of logged slates that correct a choice model's expectations for a target's slates.

A model of users' choices may be wrong: users look at the first place more than at the last, or stop
at the first item that they like. Its errors show in the logs, and can be weighted according to the
slates of the target. Weights by the probability of exactly one slate among thousands leave hardly a
row, and so do weights by the item in each place if the target shows some items seldom.

Such a model is wrong in its form: in the way in which a click depends on the place, on how much the
item is liked, and on its neighbours in the slate. So it suffices that the weighted logs have the
same totals of these variables as the target's slates. Weights with given totals of given variables
are those of calibration (Deville and Särndal 1992, "Calibration Estimators in Survey Sampling",
Journal of the American Statistical Association 87, p. 376). The variables are, for each place, the
probability p of a click by the model, p times the item's utility, and p times the expected clicks
before and after it; and all of these times the item's worth beyond no click.

With these variables ψ the weights are ψ λ, where λ solves Σ ψ ψᵀ λ = Σ ψ of the target's slates.
They need no propensities. The λ of a session is solved on the other folds, without the session.
Another error, that users and items differ beyond their columns, is tested by `unexplained_clicks`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.double_learning import DRL_FOLDS
from slateflow.policies import Slates
from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.sessions import Rows, Sessions

Array = NDArray[np.float64]

BALANCE_RIDGE = 1.0
"""Precision of the prior on λ, in average rows: about one more row for each variable."""


def calibration_weights(
    sessions: Sessions,
    slates: Slates,
    choice: ChoiceModel,
    values: Array,
    weight: Array,
    member: Array,
) -> Array:
    """Weights (R,) with which logged rows have the same totals of all variables as target slates.

    Args:
        sessions: The logs, R rows of E sessions.
        slates: (R, K) slates of the target.
        choice: Model of clicks, of one class.
        values: (F,) weights of the values.
        weight: (R,) how much more often the target reaches each row.
        member: (R,) weights of the rows in the sums.
    """
    fold = sessions.rows.visitors % DRL_FOLDS
    grams, moments = [], []
    for block in sessions.blocks():
        shown = _variables(sessions, block, sessions.rows.slate[block], choice, values)
        target = _variables(sessions, block, slates[block], choice, values)
        own = [np.flatnonzero(fold[block] == number) for number in range(DRL_FOLDS)]
        counted = shown * member[block, None]
        grams.append([counted[rows].T @ shown[rows] for rows in own])
        moments.append([weight[block[rows]] @ target[rows] for rows in own])
    gram, moment = np.sum(grams, axis=0), np.sum(moments, axis=0)  # (F, W, W), (F, W)
    every, total = gram.sum(axis=0), moment.sum(axis=0)
    usual = np.diag(every) / member.sum()
    every += np.diag(BALANCE_RIDGE * np.where(usual > 0, usual, 1.0))
    solved = np.stack(
        [np.linalg.solve(every - own, total - one) for own, one in zip(gram, moment, strict=True)]
    )
    found = np.empty(len(weight))
    for block in sessions.blocks():
        shown = _variables(sessions, block, sessions.rows.slate[block], choice, values)
        found[block] = np.einsum("bw,bw->b", shown, solved[fold[block]])
    return found


def _variables(
    sessions: Sessions, block: Rows, slates: Slates, choice: ChoiceModel, values: Array
) -> Array:
    """(B, 1 + 8 K) variables of slates (B, K) at a block of rows; the first is 1."""
    shown = sessions.shown(block, slates)
    worth = sessions.worth(block, shown, values)
    clicked = np.exp(choice.log_probabilities(shown)[0])[:, :-1]
    until = np.cumsum(clicked, axis=1)
    before, after = until - clicked, until[:, -1:] - until
    liked = shown @ choice.weights[0]
    parts = [clicked, clicked * liked, clicked * before, clicked * after]
    parts += [part * (worth[:, :-1] - worth[:, -1:]) for part in parts]
    return np.concatenate([np.ones((len(block), 1)), *parts], axis=1)
