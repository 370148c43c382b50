"""What one policy of slates earns more than another, by the values in the same logs.

The values of each are linear in the features of `Sessions.design` and solve its Bellman equation
(Bradtke and Barto 1996, "Linear Least-Squares Algorithms for Temporal Difference Learning"). The
errors of both come from the same sessions, so most of them cancel in the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.policies import Slates
from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.item_values import Members, settling_discount

Array = NDArray[np.float64]


def gain(
    members: Members, choice: ChoiceModel, one: Slates, other: Slates, precision: Array
) -> Array:
    """Contributions (N,) of the sessions to the gain of one policy over another.

    Their mean is the gain in a session's return, corrected for the prior. Their standard error is
    that of independent sessions, with the model of clicks as given.

    Args:
        members: N sessions of R rows.
        choice: Model of clicks, of the class.
        one: (R, K) slates that a policy shows at the rows.
        other: (R, K) those of the policy that it is compared with.
        precision: (F,) precision of the prior on the weights.
    """
    both = [_Path(members, choice, slates) for slates in (one, other)]
    equations = [path.equation(precision) for path in both]
    length = len(members.member) / np.count_nonzero(members.sessions.rows.first)
    discount = min(each.settling(length) for each in equations)
    ours, theirs = (
        path.contributions(equation, discount)
        for path, equation in zip(both, equations, strict=True)
    )
    return ours - theirs


@dataclass(frozen=True)
class _Equation:
    """Bellman's equation of a policy.

    Attributes:
        gram: (F, F) products of the logged design with itself, and the prior.
        ahead: (F, F) those with the design that the policy leads to.
        reward: (F,) those with the rewards.
        start: (F,) mean design that the policy leads to at first steps.
    """

    gram: Array
    ahead: Array
    reward: Array
    start: Array

    def settling(self, length: float) -> float:
        """The discount with which the values settle in sessions of a mean length."""
        step = np.asarray(np.linalg.solve(self.gram, self.ahead), np.float64)
        return settling_discount(step, length)

    def solution(self, discount: float) -> tuple[Array, Array]:
        """(F,) weights of the values, and slope of the return in the equation's errors."""
        left = self.gram - discount * self.ahead
        solved = np.linalg.solve(left, self.reward), np.linalg.solve(left.T, self.start)
        weights, slope = (np.asarray(one, np.float64) for one in solved)
        return weights, slope


@dataclass(frozen=True)
class _Path:
    """Slates (R, K) of a policy at the rows of sessions."""

    members: Members
    choice: ChoiceModel
    slates: Slates

    def _steps(self) -> Iterator[tuple[Array, Array, Array, Array, NDArray[np.intp]]]:
        """By blocks of whole sessions, the logged design and what the policy leads to.

        The four arrays are the logged design (B, F), its class (B,), the design expected at the
        next step (B, F), 0 after the last, and at first steps (n, F); then the rows (B,).
        """
        sessions = self.members.sessions
        for block in sessions.blocks():
            member = self.members.member[block]
            expected = sessions.expected(block, self.slates[block], self.choice)
            following = np.roll(expected, -1, axis=0) * ~sessions.rows.last[block, None]
            first = sessions.rows.first[block]
            start = expected[first] * member[first, None]
            yield sessions.chosen(block), member, following, start, block

    def equation(self, precision: Array) -> _Equation:
        """The equation of the policy, with a precision (F,) of the prior."""
        rewards, count = self.members.sessions.rows.reward, 0
        gram, ahead = np.diag(precision), np.zeros((len(precision), len(precision)))
        reward, first = np.zeros(len(precision)), np.zeros(len(precision))
        for design, member, following, start, block in self._steps():
            weighted = (design * member[:, None]).T
            gram += weighted @ design
            ahead += weighted @ following
            reward += weighted @ rewards[block].astype(np.float64)
            first += start.sum(axis=0)
            count += len(start)
        return _Equation(gram, ahead, reward, first / count)

    def contributions(self, equation: _Equation, discount: float) -> Array:
        """(N,) values of the sessions' starts, corrected by the errors in their steps."""
        rows = self.members.sessions.rows
        weights, slope = equation.solution(discount)
        values, errors = [], []
        for design, member, following, start, block in self._steps():
            error = rows.reward[block] + (discount * following - design) @ weights
            values.append(start @ weights)
            by_row = member * (design @ slope) * error
            errors.append(np.add.reduceat(by_row, np.flatnonzero(rows.first[block])))
        start_values = np.concatenate(values)
        return np.asarray(start_values + len(start_values) * np.concatenate(errors), np.float64)
