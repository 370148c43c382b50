"""What a policy would return, told from logs of other policies alone.

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

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.slate_values import SlateValue
from slateflow.policies import AnyScorer, Scorer
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.held_out import held_out_rows
from slateflow.user_models.polynomial import Polynomial
from slateflow.user_models.session_memory import remembering

Array = NDArray[np.float64]


def held_out_value(dataset: Dataset, scorer: AnyScorer) -> float:
    """Expected return of a scorer's policy, from the held-out episodes of a dataset.

    Raises:
        InputError: Too few episodes are held out.
    """
    return held_out_judge(dataset, memory_decays(scorer)).value(scorer)


def held_out_judge(dataset: Dataset, decays: tuple[float, ...] = ()) -> OffPolicyValue | SlateValue:
    """What tells the values of scorers in the world of a dataset, from its held-out episodes.

    Args:
        dataset: The logs.
        decays: What the scorers remember where satisfaction is hidden.

    Raises:
        InputError: Too few episodes are held out.
    """
    if dataset.spec.user_chooses:
        return SlateValue(held_out_rows(dataset), dataset.spec.horizon)
    return OffPolicyValue.of(dataset, decays)


def memory_decays(scorer: AnyScorer) -> tuple[float, ...]:
    """The factors of a scorer's fading memory; none where it has no such."""
    return tuple(scorer.decays.tolist()) if isinstance(scorer, Scorer) else ()


class OffPolicyValue:
    """Held-out rows, prepared for any number of scorers with the same memory."""

    def __init__(self, rows: Trajectories, horizon: int, degree: int) -> None:
        self.rows, self.horizon = rows, horizon
        last = np.append(rows.episode[1:] != rows.episode[:-1], True)
        self.starts = np.flatnonzero(rows.step == 0)
        self.ongoing = np.flatnonzero(~last)
        user = rows.user.astype(np.float64)
        chosen = rows.candidates[np.arange(len(rows)), rows.slate[:, 0]].astype(np.float64)
        x = np.concatenate([user, chosen], axis=1)
        self.polynomial = Polynomial.over(x, degree)
        design = self.polynomial.design(x)
        self.design = design[self.ongoing]
        gram = self.design.T @ self.design
        ridge = 1e-9 * len(self.design) * np.eye(len(gram))
        self.factor = linalg.cho_factor(gram + ridge, lower=True)
        self.reward = rows.reward[self.ongoing].astype(np.float64)
        self.mean = float(self.reward.mean())

    @classmethod
    def of(
        cls, dataset: Dataset, decays: tuple[float, ...] = (), degree: int = 3
    ) -> OffPolicyValue:
        """From the held-out episodes of a dataset."""
        if dataset.spec.user_chooses:
            raise InputError(
                f"{dataset.path}: expected logs of users who click the first place, got "
                f"{dataset.spec.world}, whose users choose"
            )
        rows = remembering(held_out_rows(dataset), decays)
        return cls(rows, dataset.spec.horizon, degree)

    def value(self, scorer: AnyScorer) -> float:
        """Expected return of the policy that shows the scorer's best candidate first."""
        if not isinstance(scorer, Scorer):
            raise InputError("scorer: expected one of candidates, got one of slates")
        following = self.ongoing + 1
        # From `window` steps before the end on, the policy is another one at every step.
        stages = [self._shown(scorer, following, left) for left in range(1, scorer.window + 1)]
        values = np.zeros(len(following))
        weights = np.zeros(self.design.shape[1])
        for stage in range(self.horizon):
            if stage:
                values = stages[min(stage, len(stages)) - 1] @ weights
            target = self.reward - self.mean + values
            weights = linalg.cho_solve(self.factor, self.design.T @ target)
        start = self._shown(scorer, self.starts, self.horizon) @ weights
        return float(start.mean() + self.horizon * self.mean)

    def _shown(self, scorer: Scorer, index: NDArray[np.intp], left: int) -> Array:
        """Monomials (B, P) of what the policy shows at these rows with so many steps left."""
        rows, user_size = self.rows, scorer.user_size
        known = rows.user[index].astype(np.float64)
        step = np.full(len(index), scorer.horizon - left)
        candidates = rows.candidates[index].astype(np.float64)
        scores = scorer.scores(known[:, :user_size], step, candidates, known[:, user_size:])
        chosen = candidates[np.arange(len(index)), scores.argmax(axis=1)]
        return self.polynomial.design(np.concatenate([known, chosen], axis=1))
