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
from slateflow.user_models.sessions import Rows

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
    paths = _Paths(members, choice, (one, other))
    equations = paths.equations(precision)
    length = len(members.member) / np.count_nonzero(members.sessions.rows.first)
    discount = min(each.settling(length) for each in equations)
    found = paths.contributions(equations, discount)
    return np.asarray(found[:, 0] - found[:, 1])


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
class _Paths:
    """Slates (R, K) of policies at the rows of sessions."""

    members: Members
    choice: ChoiceModel
    slates: tuple[Slates, ...]

    def _steps(self) -> Iterator[tuple[Array, Array, list[Array], list[Array], Rows]]:
        """By blocks of whole sessions, the logged design and what the policies lead to.

        They are the logged design (B, F), its class (B,); of each policy, the design expected at
        the next step (B, F), 0 after the last, and at first steps (n, F); then the rows (B,).
        """
        sessions = self.members.sessions
        for block in sessions.blocks():
            member = self.members.member[block]
            first, goes_on = sessions.rows.first[block], ~sessions.rows.last[block, None]
            following, start = [], []
            for slates in self.slates:
                expected = sessions.expected(block, slates[block], self.choice)
                following.append(np.roll(expected, -1, axis=0) * goes_on)
                start.append(expected[first] * member[first, None])
            yield sessions.chosen(block), member, following, start, block

    def equations(self, precision: Array) -> list[_Equation]:
        """The equation of each policy, with a precision (F,) of the prior."""
        size, rewards, count = len(precision), self.members.sessions.rows.reward, 0
        gram, reward = np.diag(precision), np.zeros(size)
        ahead = [np.zeros((size, size)) for _ in self.slates]
        first = [np.zeros(size) for _ in self.slates]
        for design, member, following, start, block in self._steps():
            weighted = (design * member[:, None]).T
            gram += weighted @ design
            reward += weighted @ rewards[block].astype(np.float64)
            for policy in range(len(self.slates)):
                ahead[policy] += weighted @ following[policy]
                first[policy] += start[policy].sum(axis=0)
            count += len(start[0])
        of_policies = zip(ahead, first, strict=True)
        return [_Equation(gram, led_to, reward, begun / count) for led_to, begun in of_policies]

    def contributions(self, equations: list[_Equation], discount: float) -> Array:
        """(N, policies) values of the sessions' starts, corrected by the errors in their steps."""
        rows = self.members.sessions.rows
        weights, slopes = (
            np.stack(one, axis=1)
            for one in zip(*(each.solution(discount) for each in equations), strict=True)
        )
        values, errors = [], []
        for design, member, following, start, block in self._steps():
            later = [one @ by for one, by in zip(following, weights.T, strict=True)]
            error = rows.reward[block, None] + discount * np.stack(later, axis=1) - design @ weights
            by_row = member[:, None] * (design @ slopes) * error
            errors.append(np.add.reduceat(by_row, np.flatnonzero(rows.first[block])))
            begun = [one @ by for one, by in zip(start, weights.T, strict=True)]
            values.append(np.stack(begun, axis=1))
        start_values = np.concatenate(values)
        return np.asarray(start_values + len(start_values) * np.concatenate(errors), np.float64)
