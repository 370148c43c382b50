"""Values of items where users choose from the slate, estimated from logs.

The value of a slate decomposes into those of its items and of no click, weighted by their
probabilities of being chosen (Ie et al. 2019, "SlateQ: A Tractable Decomposition for
Reinforcement Learning with Recommendation Sets", equation 17). The values are linear in the
features of `slate_choice`, and those of a policy are the fixed point of its Bellman equation on the
logs (Lagoudakis and Parr 2003, "Least-Squares Policy Iteration", section 5.2).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.sparse.linalg import eigs

from slateflow.policies import Slates
from slateflow.policies.slate_choice import ChoiceModel, user_features
from slateflow.user_models.prior import GROUP_BY_CHANCE, excluding, group_means, group_variances
from slateflow.user_models.sessions import Rows, Sessions
from slateflow.user_models.sums_of_parts import MapParts

Array = NDArray[np.float64]

ITEMS_RIDGE, COMMON_SHARE = 0.1, 1e-3
"""Precision of the prior on the weights where the logs choose how far to shrink, and its share on
the weights that all items have in common."""

DENSE_FEATURES = 500
"""Fewest features of which only the greatest eigenvalue is computed."""

GROUP_BEYOND_CHANCE = 2.0
"""Root mean square of a group's weights, in standard errors, above which it is beyond chance."""


SlatePolicy = Callable[[Sessions, Rows], Slates]
"""Function from rows (B,) of sessions to the slates (B, K) that a policy shows there."""


@dataclass(frozen=True)
class Members:
    """Sessions, and the probability (R,) that each row's episode is of one class of users."""

    sessions: Sessions
    member: Array

    def sums(self) -> list[Array]:
        """Sums of products over the rows.

        They are those of the weighted design with itself (F, F), with the rewards (F,) and with the
        returns (F,), those of the design with itself (F, F) and alone (F,), and the numbers of rows
        and of sessions.
        """
        rewards, returns = self.sessions.rows.reward, self.sessions.returns_to_go()
        found = (
            self._sums(block, rewards[block].astype(np.float64), returns[block])
            for block in self.sessions.blocks()
        )
        return [np.asarray(sum(one)) for one in zip(*found, strict=True)]

    def _sums(self, block: Rows, rewards: Array, returns: Array) -> list[Array]:
        design = self.sessions.chosen(block)
        weighted = (design * self.member[block, None]).T
        return [
            weighted @ design,
            weighted @ rewards,
            weighted @ returns,
            design.T @ design,
            design.sum(axis=0),
            np.array(len(design)),
            np.array(np.count_nonzero(self.sessions.rows.first[block])),
        ]

    def following(
        self, policy: SlatePolicy, choice: ChoiceModel, weights: Array, discount: float
    ) -> tuple[Array, Array]:
        """Sum up the expectations of the next steps under a policy.

        Args:
            policy: The slates (B, K) that it shows at some rows (B,).
            choice: Model of clicks, of the class.
            weights: (F,) of the values so far.
            discount: That of these values.

        Returns:
            Sums (F, F) of the weighted design times the expected next design; and sums (F, F),
            over sessions, of the outer products of their errors (F,) in Bellman's equation, by
            column of the design.
        """
        sessions, size = self.sessions, len(weights)
        first, last = sessions.rows.first, sessions.rows.last
        products, errors = np.zeros((size, size)), np.zeros((size, size))
        for block in sessions.blocks():
            design, goes_on = sessions.chosen(block), ~last[block]
            expected, ongoing = np.zeros_like(design), block[goes_on]
            if len(ongoing):  # unless all sessions have one step
                slates = policy(sessions, ongoing + 1)
                expected[goes_on] = sessions.expected(ongoing + 1, slates, choice)
            error = sessions.rows.reward[block] + (discount * expected - design) @ weights
            weighted = design * self.member[block, None]
            starts = np.flatnonzero(first[block])
            missed = np.add.reduceat(weighted * error[:, None], starts)
            products += weighted.T @ expected
            errors += missed.T @ missed
        return products, errors


class ItemValues:
    """Weights of the values for one class of users, in the columns of `Sessions.design`.

    A row's weight is the probability that its episode is of the class. The first weights are a
    regression on the logged returns. Everything follows from sums, so the sessions are read in
    parts.

    The items' weights can be shrunk according to how far those of a group differ beyond their
    errors. A slate is chosen as the best of many, so with values that differ by chance it would be
    the luckiest. Items whose effects on later rewards are equal are ranked as by a bandit.

    Args:
        map_parts: Map over all sessions; it is called once now, and once per policy.
        choice: Model of clicks, of the class.
        groups: (P,) groups of the items' weights, 0 for those that are not shrunk.
        ridge: Precision of the prior on the weights.
        user_size: U, features of the user.
        past_size: H, sums over the session so far.
    """

    def __init__(
        self,
        map_parts: MapParts[Members],
        choice: ChoiceModel,
        groups: NDArray[np.intp],
        ridge: float,
        user_size: int,
        past_size: int,
    ) -> None:
        self.map_parts, self.choice, self.items = map_parts, choice, len(groups)
        self.users = user_features(np.zeros((1, user_size), np.float32)).shape[1]
        sums = reduce(_added, map_parts(Members.sums))
        self.gram, self.reward, returns, plain, total, rows, sessions = sums
        self.mean, self.second = total / rows, plain / rows
        self.session_steps = float(rows / sessions)
        self.shrunk = self.users + np.flatnonzero(groups)
        self.groups = groups[groups > 0]
        self.precision = np.full(len(self.gram), ridge)
        # Constant and affinity hold the common part of the groups, and are not shrunk
        self.precision[np.append(0, self.users + np.flatnonzero(groups == 0))] *= COMMON_SHARE
        self.gram += np.diag(self.precision)
        self.weights = np.asarray(np.linalg.solve(self.gram, returns), np.float64)
        self.errors = np.zeros(len(self.shrunk))
        self.discount = 1.0
        products = self.users * 2 + self.items + past_size + np.arange(past_size * user_size)
        self.products = np.isin(np.arange(len(self.gram)), products)

    def follow(self, policy: SlatePolicy) -> float:
        """Solve for the values of a policy.

        Args:
            policy: May be sent to other processes.

        Returns:
            The change in the values of the logged choices, relative to their deviation.
        """
        before = self.weights
        step = partial(_following, policy, self.choice, before, self.discount)
        following, missed = reduce(_added, map(list, self.map_parts(step)))
        self.discount = self._discount(following)
        if self.discount < 1 and self.products.any():
            self._drop_products()
            self.discount = self._discount(following)
        left = self.gram - self.discount * following
        self.weights = np.asarray(np.linalg.solve(left, self.reward), np.float64)
        half = np.linalg.solve(left, missed)
        errors = np.diag(np.linalg.solve(left, half.T))[self.shrunk]
        self.errors = np.maximum(errors, 0.0)  # rounding makes some negative
        change = np.sqrt(self._square(self.weights - before))
        variance = self._square(self.weights) - float(self.mean @ self.weights) ** 2
        return float(change / (np.sqrt(max(variance, 0.0)) or 1.0))

    def _discount(self, following: Array) -> float:
        """The discount with which the values of a policy settle."""
        ahead = np.asarray(np.linalg.solve(self.gram, following), np.float64)
        return settling_discount(ahead, self.session_steps)

    def _drop_products(self) -> None:
        """Leave products of the past with the user no weights, from now on.

        Values that would grow do so along them first: there are so many that some grow by chance.
        """
        added = excluding(self.products, self.gram)
        self.precision, self.gram = self.precision + added, self.gram + np.diag(added)
        self.products = np.zeros(len(added), np.bool_)

    def shrink(self) -> None:
        """Shrink the weights of groups that may be chance, after the last policy.

        Each weight is shrunk by its own error, whose variance is that of independent sessions
        (White 1982, "Maximum Likelihood Estimation of Misspecified Models", theorem 3.2).
        """
        if len(self.shrunk):
            of_items = self.weights[self.shrunk]
            self.weights[self.shrunk] *= kept_shares(of_items, self.errors, self.groups)

    def of_equal_clicks(self) -> ItemValues:
        """A copy in which every click is worth the same, and no click nothing."""
        equal = copy(self)
        equal.weights = np.zeros(len(self.weights))
        equal.weights[0] = 1.0  # the constant of clicks
        return equal

    def _square(self, weights: Array) -> float:
        """Mean square of the values of the logged choices."""
        return max(float(weights @ self.second @ weights), 0.0)

    @property
    def parts(self) -> tuple[Array, Array, Array]:
        """The weights of clicks (S,), items (P,) and no click (S,)."""
        cuts = np.cumsum([self.users, self.items, self.users])
        click, item, none, _ = np.split(self.weights, cuts)
        return click, item, none


def kept_shares(weights: Array, errors: Array, groups: NDArray[np.intp]) -> Array:
    """Shares (P,) of weights that are kept where those of a group may be chance.

    True weights explain what is left of a group's mean square when that which chance reaches in 1
    of 20 logs is subtracted (Cochran 1954, "The Combination of Estimates from Different
    Experiments"). Groups beyond chance are kept: to shrink only them would change which items are
    worth a click.

    Args:
        weights: (P,) estimates.
        errors: (P,) variances of their errors.
        groups: (P,) groups, numbers from 0.

    Example:
        >>> one = np.ones(2, np.intp)
        >>> kept_shares(np.array([1.0, -2.0]), np.ones(2), one).round(2).tolist()
        [0.0, 0.0]
        >>> kept_shares(np.array([3.0, -2.0]), np.ones(2), one).tolist()
        [1.0, 1.0]
    """
    members = np.bincount(groups)[groups]
    reached = special.chdtri(members, GROUP_BY_CHANCE) / members  # mean square, in errors
    true = group_variances(weights, reached * errors, groups)
    square, usual = (group_means(one, groups) for one in (np.square(weights), errors))
    chance = square < GROUP_BEYOND_CHANCE**2 * usual
    return np.asarray(np.where(chance, true / (true + errors), 1.0))


def settling_discount(step: Array, length: float) -> float:
    """The discount with which values settle.

    The values of a policy that the logs did not follow may grow from step to step (Tsitsiklis and
    Van Roy 1997, "An Analysis of Temporal-Difference Learning with Function Approximation", section
    9). The equation has a solution then, but it is not the sum of later rewards: its sign may even
    be the opposite. The discount makes the slowest values fade as the logged sessions end.

    Args:
        step: (F, F) weights of the expected next values in terms of the weights of the values.
        length: Mean number of steps of a session.

    Returns:
        1 where values settle without a discount.

    Example:
        >>> settling_discount(np.array([[0.9]]), 10.0), settling_discount(np.array([[2.0]]), 10.0)
        (1.0, 0.45)
    """
    if not step.any():  # sessions of one step, whose eigenvalues cannot be searched for
        return 1.0
    if len(step) < DENSE_FEATURES:
        growth = float(np.abs(np.linalg.eigvals(step)).max())
    else:
        first = np.ones(len(step))  # not random
        growth = float(abs(eigs(step, 1, v0=first, tol=1e-6, return_eigenvectors=False)[0]))
    return 1.0 if growth < 1 else (1 - 1 / length) / growth


def _following(
    policy: SlatePolicy, choice: ChoiceModel, weights: Array, discount: float, part: Members
) -> tuple[Array, Array]:
    return part.following(policy, choice, weights, discount)


def _added(one: list[Array], other: list[Array]) -> list[Array]:
    return [a + b for a, b in zip(one, other, strict=True)]
