"""Weights of logged sessions by propensities: products over the steps so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.contributions import Contributions, weight_of_one
from slateflow.evaluation.off_policy.corrections import CARRIERS_TO_CORRECT
from slateflow.evaluation.off_policy.logging_policies import LoggingPolicies
from slateflow.evaluation.off_policy.overlap import CheckedWeights, NoVerdict, effective_size
from slateflow.trajectories import Dataset, Trajectories

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DecisionWeights:
    """The probability of what users saw under each logging policy.

    Attributes:
        rows: Whole sessions, R rows and E sessions.
        shares: (L,) shares of the logging policies among the sessions.
        logging: (R, L) probabilities; where the policies are unknown, one column of propensities.
        known: Whether the policies are known.
    """

    rows: Trajectories
    shares: Array
    logging: Array
    known: bool

    @classmethod
    def of(cls, dataset: Dataset, rows: Trajectories) -> DecisionWeights:
        """Probabilities by the policies of a dataset's recipe, or the logged propensities."""
        policies = LoggingPolicies.of(dataset)
        if not policies.policies:
            return cls(rows, np.ones(1), rows.propensity[:, None], known=False)
        chooses = dataset.spec.user_chooses
        found = [policies.each(rows, block, slates=chooses) for block in rows.blocks()]
        shares = np.array([share for share, _ in policies.policies])
        return cls(rows, shares, np.concatenate(found), known=True)

    def of_decisions(self, probability: Array) -> Array:
        """(R,) weights of single decisions, against the mixture of all logging policies."""
        logged = self.logging @ self.shares
        return np.divide(probability, logged, out=np.zeros_like(logged), where=logged > 0)

    @property
    def of_one(self) -> float:
        """Weighted mean of the weights of rows that show a deterministic target's choice."""
        logged = self.logging @ self.shares
        return weight_of_one(1 / logged[logged > 0])

    def estimates(self, probability: Array) -> dict[str, Contributions]:
        """Per-decision importance weighting (Precup, Sutton and Singh 2000, section 3).

        Sessions are weighted against the mixture of all logging policies. `snips` divides the
        weights of a step by their mean, linearised.

        Args:
            probability: (R,) probabilities with which the target shows what users saw.
        """
        target = self._products(probability)  # (E, T)
        logged = [self._products(one) for one in self.logging.T]
        mixed = np.einsum("l,let->et", self.shares, np.stack(logged))
        weight = np.divide(target, mixed, out=np.zeros_like(target), where=mixed > 0)  # underflow
        reward = self._by_step(self.rows.reward.astype(np.float64), 0.0)
        mean = weight.mean(axis=0)
        value = np.divide(
            (weight * reward).mean(axis=0), mean, out=np.zeros_like(mean), where=mean > 0
        )
        normed = np.divide(weight, mean, out=np.ones_like(weight), where=mean > 0)
        return {
            "ips": Contributions((weight * reward).sum(axis=1)),
            "snips": Contributions((value + normed * (reward - value)).sum(axis=1)),
        }

    def checked(self, probability: Array) -> CheckedWeights | None:
        """Weights of single decisions, to be checked; None where their mean proves nothing.

        Weights are summed by visitor, or by session, for which chance may have decided only once.
        Rows of deterministic policies are left out, as they contain nothing about others. Policies
        of our own need no check. Where a few rows carry the whole sum, as with slates chosen from
        thousands, the mean proves nothing.

        Args:
            probability: (R,) probabilities with which the target shows what users saw.
        """
        mixed = self.rows.propensity < 1
        weight = (probability / self.rows.propensity)[mixed]
        if self.known or effective_size(weight) <= CARRIERS_TO_CORRECT:
            return None
        whose = np.unique(self.rows.visitors[mixed], return_inverse=True)[1]
        return CheckedWeights(
            Contributions(weight).of_visitors(whose),
            largest=float(probability.max() / self.rows.propensity.min()),
        )

    def refusal(self) -> NoVerdict | None:
        """The refusal if the logs never explored; otherwise None."""
        if self.known or (self.rows.propensity < 1).any() or self.rows.candidates.shape[1] == 1:
            return None
        return NoVerdict(
            "every propensity is 1, so the logs never tried anything else",
            "log each choice with its probability, and explore in at least 5% of the sessions",
        )

    def _products(self, probability: Array) -> Array:
        """(E, T) products up to each step; they remain constant after a session's end."""
        return np.asarray(np.cumprod(self._by_step(probability, 1.0), axis=1), np.float64)

    def _by_step(self, values: Array, after: float) -> Array:
        """(E, T) values (R,) arranged by session, filled with `after`."""
        rows = self.rows
        table = np.full((len(rows.starts), int(rows.lengths.max())), after)
        sessions = rows.sessions
        table[sessions, np.arange(len(rows)) - rows.starts[sessions]] = values
        return table
