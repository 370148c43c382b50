"""How far each session moves a choice model of latent classes.

(White 1982, "Maximum Likelihood Estimation of Misspecified Models", theorem 3.2; of classes, which
are not observed, by Louis 1982, "Finding the Observed Information Matrix when Using the EM
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
"""Share of the largest singular value below which the information of weights is none."""


@dataclass(frozen=True)
class Influences:
    """Scores of the sessions, and what all of them tell of the model.

    Attributes:
        member: (E, G) how likely each session is of each class.
        scores: For each class (E, P + 1), how the likelihood of its choices rises with the weights
            of the items' features and of no click; by `member`.
        information: (G (P + 2), G (P + 2)) of the weights of each class, and its share, which all
            sessions and the prior tell.
    """

    member: Array
    scores: list[Array]
    information: Array

    @classmethod
    def of(cls, choices: Choices, model: ChoiceModel, prior: float | Array) -> Influences:
        """Influences on a model of the choices to which it was fitted, with a prior's precision."""
        member = choices.members(model)[choices.starts]
        scores, complete = [], []
        for own, probabilities in zip(
            member.T, np.exp(model.log_probabilities(choices.shown)), strict=True
        ):
            of_rows = np.repeat(own, choices.lengths)
            told, _ = information_and_score(choices, probabilities, of_rows)
            scores.append(np.add.reduceat(surprises(choices, probabilities), choices.starts))
            complete.append(told + prior_precision(prior, len(told)))
        # If classes were seen, shares would be told by them alone
        shares = member.mean(axis=0)
        of_shares = len(member) * (np.diag(shares) - np.outer(shares, shares))
        of_shares += len(member) / len(shares)  # it is the same if all rise by as much
        information = linalg.block_diag(*complete, of_shares)
        # They are not: what the sessions leave open of their class is lost
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
        """(E,) how far each session moves the mean worth of a policy, times the number of sessions.

        Args:
            slopes: (G, P + 1) of the sum over sessions in the weights of each class.
            worth: (E, G) in each class. A session counts by how likely it is of the class, and
                the weights tell that, too.
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
        """Steps by slopes; none in what the sessions tell nothing of, as a class without users."""
        told = np.diag(self.information)
        scale = np.divide(1.0, np.sqrt(np.abs(told)), out=np.zeros_like(told), where=told > 0)
        scaled = scale[:, None] * self.information * scale
        return np.asarray(scale * np.linalg.lstsq(scaled, scale * slopes, rcond=NO_INFORMATION)[0])
