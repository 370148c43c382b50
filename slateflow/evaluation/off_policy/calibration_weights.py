"""Weights of logged slates that correct a model of choices in what it expects of a target's slates.

A model of what users choose may be wrong: they look at the first place more than at the last, or
stop at the first item that they like. Its errors can be seen in the logs, and weighted as the
target shows slates. The probability of exactly one slate among thousands leaves hardly a row with
a weight, and so do weights by which item stands in which place, if the target shows some seldom.

Such a model is wrong about its form: how a click depends on the place, on how much the item is
liked, and on its neighbours in the slate. So it is enough that the weighted logs have as
much of that as the target's slates have. Weights with given sums of given variables are those of
calibration (Deville and Särndal 1992, "Calibration Estimators in Survey Sampling", Journal of the
American Statistical Association 87, p. 376). The variables are, of each place, the probability p of
a click by the model, p times the item's utility, and p times the clicks that are expected before
and after it; and all of these times what the item is worth beyond no click.

With these variables ψ the weights are ψ λ, where λ solves Σ ψ ψᵀ λ = Σ ψ of the target's slates.
They need no propensities. The λ of a session is solved without it, on the other folds. That users
and items have more to them than the columns tell is another error, which `unexplained_clicks` looks
for.
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
"""Precision of the prior on λ, in rows of the usual size: about one more of each variable."""


def calibration_weights(
    sessions: Sessions,
    slates: Slates,
    choice: ChoiceModel,
    values: Array,
    weight: Array,
    member: Array,
) -> Array:
    """Weights (R,) of the logged rows that have as much of all variables as a target's slates.

    Args:
        sessions: The logs, R rows of E sessions.
        slates: (R, K) slates of the target.
        choice: Model of clicks, of one class.
        values: (F,) weights of the values.
        weight: (R,) how much oftener the target comes to each row.
        member: (R,) by which the rows count.
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
    """(B, 1 + 8 K) of slates (B, K) at some rows, the first is 1."""
    shown = sessions.shown(block, slates)
    worth = sessions.worth(block, shown, values)
    clicked = np.exp(choice.log_probabilities(shown)[0])[:, :-1]
    until = np.cumsum(clicked, axis=1)
    before, after = until - clicked, until[:, -1:] - until
    liked = shown @ choice.weights[0]
    parts = [clicked, clicked * liked, clicked * before, clicked * after]
    parts += [part * (worth[:, :-1] - worth[:, -1:]) for part in parts]
    return np.concatenate([np.ones((len(block), 1)), *parts], axis=1)
