"""The return of a policy, estimated from logs of other policies alone.

Fitted-Q evaluation (Le, Voloshin and Yue 2019, "Batch Policy Learning under Constraints",
algorithm 3), backwards from the end of an episode: Q₁ regresses the reward on a polynomial of
(user, candidate), and Q_k the reward plus Q_{k-1} of what the policy shows next. As in fitted-Q
iteration, all rows serve at every stage and the design is factored once.

Where a policy leads users to states that the logs have not, the polynomial extrapolates, and the
value is off by more than its noise; the order of policies has held there, too.

Learners are chosen with it, on episodes that they were not trained from; the simulator is only
asked for the verdict.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.backward_stages import Transitions, backward_stages
from slateflow.evaluation.off_policy.slate_values import SlateValue
from slateflow.policies import AnyScorer, Scorer
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.held_out import held_out_rows
from slateflow.user_models.polynomial import Polynomial, term_count
from slateflow.user_models.session_memory import with_session_memory

Array = NDArray[np.float64]

MOST_TERMS = 200
"""Above so many the degree is lowered."""


class Estimator(Protocol):
    """Estimates the return of a scorer's policy from logs."""

    rows: Trajectories
    horizon: int

    def value(self, scorer: AnyScorer) -> float:
        """Expected return of an episode."""
        ...


def held_out_estimator(dataset: Dataset, decays: tuple[float, ...] = ()) -> Estimator:
    """The estimator for scorers in the world of a dataset, on its held-out episodes.

    Args:
        dataset: The logs.
        decays: What the scorers remember where satisfaction is hidden.

    Raises:
        InputError: Too few episodes are held out.
    """
    if dataset.spec.user_chooses:
        return SlateValue(held_out_rows(dataset), dataset.spec)
    return FittedQEvaluation.from_dataset(dataset, decays)


def memory_decays(scorer: AnyScorer) -> tuple[float, ...]:
    """The factors of a scorer's session memory; empty without one."""
    return tuple(scorer.decays.tolist()) if isinstance(scorer, Scorer) else ()


class FittedQEvaluation:
    """Held-out rows, prepared for any number of scorers with the same memory."""

    def __init__(self, rows: Trajectories, horizon: int, degree: int) -> None:
        self.rows, self.horizon = rows, horizon
        self.starts, self.transitions = rows.starts, Transitions.from_rows(rows)
        used = self.transitions.rows
        users, documents = rows.user.shape[1], rows.candidate_features(used[:1]).shape[2]
        while degree > 1 and term_count(users, documents, degree) > MOST_TERMS:
            degree -= 1
        x = np.concatenate([rows.user, rows.features_at(rows.slate[:, 0])], axis=1)
        self.polynomial = Polynomial.over(x[used].astype(np.float64), degree, users)
        self.design = self.polynomial.design(x[used].astype(np.float64))
        self.reward = rows.reward[used].astype(np.float64)
        self.mean = float(self.reward.mean()) if self.transitions.timed else 0.0

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, decays: tuple[float, ...] = (), degree: int = 3
    ) -> FittedQEvaluation:
        """Take the held-out episodes of a dataset."""
        if dataset.spec.user_chooses:
            raise InputError(
                f"{dataset.path}: expected logs of users who click the first place, got "
                f"{dataset.spec.world}, whose users choose"
            )
        rows = with_session_memory(held_out_rows(dataset), decays)
        return cls(rows, dataset.spec.horizon, degree)

    def value(self, scorer: AnyScorer) -> float:
        """Expected return of the policy that shows the scorer's best candidate first."""
        if not isinstance(scorer, Scorer):
            raise InputError("scorer: expected one of candidates, got one of slates")
        transitions = self.transitions
        # From `window` steps before the end on, the policy is another one at every step.
        shown = [
            self._shown(scorer, transitions.following, left) for left in range(1, scorer.window + 1)
        ]

        def next_values(stage: int, weights: Array) -> Array:
            return transitions.values(shown[min(stage, len(shown)) - 1] @ weights)

        stages = transitions.most_stages(self.horizon)
        *_, last = backward_stages(
            self.design.__getitem__, self.reward - self.mean, next_values, stages
        )
        start = self._shown(scorer, self.starts, self.horizon) @ last.weights
        return float(start.mean() + self.horizon * self.mean)

    def _shown(self, scorer: Scorer, index: NDArray[np.intp], left: int) -> Array:
        """Monomials (B, P) of what the policy shows at these rows with so many steps left."""
        rows, user_size = self.rows, scorer.user_size
        known = rows.user[index].astype(np.float64)
        step = np.full(len(index), scorer.horizon - left)
        candidates = rows.candidate_features(index).astype(np.float64)
        scores = scorer.scores(known[:, :user_size], step, candidates, known[:, user_size:])
        chosen = candidates[np.arange(len(index)), scores.argmax(axis=1)]
        return self.polynomial.design(np.concatenate([known, chosen], axis=1))
