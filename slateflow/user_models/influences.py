"""The influence of each session on a choice model of latent classes.

(White 1982, "Maximum Likelihood Estimation of Misspecified Models", theorem 3.2; for classes, which
are not observed, Louis 1982, "Finding the Observed Information Matrix when Using the EM
Algorithm".)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.policies.slate_choice import ChoiceModel
from slateflow.user_models.choices import Choices
from slateflow.user_models.conditional_logit import (
    information_and_score,
    prior_precision,
    surprises,
)

Array = NDArray[np.float64]

NO_INFORMATION = 1e-9
"""Share of the largest singular value below which the information on weights counts as 0."""


@dataclass(frozen=True)
class Influences:
    """Scores of the sessions, and the information on the model from all of them.

    Attributes:
        member: (E, G) probabilities of the classes, by session.
        scores: For each class (E, P + 1) slopes of the log-likelihood of its choices in the weights
            of the items' features and of no click, multiplied by `member`.
        information: (G (P + 2), G (P + 2)) information from all sessions and the prior on each
            class's weights and share.
    """

    member: Array
    scores: list[Array]
    information: Array

    @classmethod
    def of(cls, choices: Choices, model: ChoiceModel, prior: float | Array) -> Influences:
        """The influences of choices on the model fitted to them, with the prior's precision."""
        member = choices.members(model)[choices.starts]
        scores, complete = [], []
        for own, probabilities in zip(
            member.T, np.exp(model.log_probabilities(choices.shown)), strict=True
        ):
            of_rows = np.repeat(own, choices.lengths)
            told, _ = information_and_score(choices, probabilities, of_rows)
            scores.append(np.add.reduceat(surprises(choices, probabilities), choices.starts))
            complete.append(told + prior_precision(prior, len(told)))
        # If classes were observed, they alone would determine the shares
        shares = member.mean(axis=0)
        of_shares = len(member) * (np.diag(shares) - np.outer(shares, shares))
        of_shares += len(member) / len(shares)  # shares do not change if all logits rise equally
        information = linalg.block_diag(*complete, of_shares)
        # They are not: the information lost is what sessions leave uncertain of their class
        size, groups = len(complete[0]), len(shares)
        for one in range(groups):
            for other in range(groups):
                both = member[:, one] * ((one == other) - member[:, other])
                mine = slice(one * size, (one + 1) * size)
                others = slice(other * size, (other + 1) * size)
                information[mine, others] -= (scores[one] * both[:, None]).T @ scores[other]
                last = groups * size + other
                lost = both @ scores[one]
                information[mine, last] -= lost
                information[last, mine] -= lost
                information[groups * size + one, last] -= both.sum()
        weighted = [own[:, None] * one for own, one in zip(member.T, scores, strict=True)]
        return cls(member, weighted, information)

    def moves(self, slopes: Array, worth: Array) -> Array:
        """(E,) change in a policy's mean worth due to each session, times the number of sessions.

        Args:
            slopes: (G, P + 1) slopes of the sum over sessions in the weights of each class.
            worth: (E, G) worth in each class. A session counts by its probability of the class,
                which depends on the weights, too.
        """
        beyond = worth - (self.member * worth).sum(axis=1, keepdims=True)
        of_weights = [
            slope + beyond[:, group] @ self.scores[group] for group, slope in enumerate(slopes)
        ]
        of_shares = (self.member * beyond).sum(axis=0)
        step = self._solved(np.concatenate([*of_weights, of_shares]))
        size, groups = slopes.shape[1], len(slopes)
        by_class = step[: groups * size].reshape(groups, size)
        found = self.member @ step[groups * size :]
        for own, move in zip(self.scores, by_class, strict=True):
            found += own @ move
        return np.asarray(found)

    def _solved(self, slopes: Array) -> Array:
        """Steps for slopes; 0 in directions without information, as for a class without users."""
        told = np.diag(self.information)
        scale = np.divide(1.0, np.sqrt(np.abs(told)), out=np.zeros_like(told), where=told > 0)
        scaled = scale[:, None] * self.information * scale
        return np.asarray(scale * np.linalg.lstsq(scaled, scale * slopes, rcond=NO_INFORMATION)[0])
