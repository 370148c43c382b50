"""Fitted-Q iteration in closed form.

Backwards from the end of the episode: Q₁ regresses the reward on a polynomial of (user,
candidate), and Q_k regresses the reward plus the best Q_{k-1} at the next step's candidates
(Ernst, Geurts and Wehenkel 2005, "Tree-Based Batch Mode Reinforcement Learning", figure 1, with
least squares in place of trees). `backward_stages` is the recursion.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.backward_stages import backward_stages
from slateflow.learners.config import Count, LearnerConfig, NonNegative, Progress, Trained
from slateflow.learners.features import FeatureMoments, blocks, centred_rewards, episode_ends
from slateflow.learners.search_space import Range, Space
from slateflow.policies import Scorer
from slateflow.policies.scorer import monomials
from slateflow.trajectories import Dataset
from slateflow.trajectories.variation import check_variation
from slateflow.user_models.session_memory import fitting_decays, with_session_memory
from slateflow.validation import validated

Array = NDArray[np.float64]


@validated
class FittedQConfig(LearnerConfig):
    """Fitted-Q iteration by least squares on polynomials (Ernst et al. 2005)."""

    learner: ClassVar[str] = "fitted-q"
    search_space: ClassVar[Space] = {
        "degree": Range(2, 5, whole=True),
        "window": Range(6, 20, whole=True),
        "ridge": Range(1e-10, 1e-6, log=True),
    }

    window: Count = 12
    """Steps back from the end for which a Q-function of their own is fitted."""
    degree: Count = 3
    """Degree of the polynomial in user and candidate."""
    ridge: NonNegative = 1e-9
    """Precision of the prior on the weights, for each row."""

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Fit stage by stage; all rows with a successor serve at every stage."""
        spec, decays = dataset.spec, fitting_decays(dataset)
        moments = FeatureMoments.from_dataset(dataset, decays)
        rows = with_session_memory(dataset.read(), decays)
        check_variation(rows)
        rewards, ends = centred_rewards(rows), episode_ends(rows)
        ongoing = np.flatnonzero(~ends & (rows.clicked >= 0))
        if not len(ongoing):
            raise InputError("dataset: expected episodes of two steps or more, got one-step ones")
        users = rows.user.shape[1]  # the session memory included
        powers = exponents(users, spec.document_size, self.degree)
        scorer = Scorer(
            user_size=users,
            slate_size=spec.slate_size,
            horizon=spec.horizon,
            window=1,
            offset=moments.offset,
            scale=moments.scale,
            powers=powers,
            head=np.zeros((1, len(powers))),
            head_bias=np.zeros(1),
        )

        def known(chosen: NDArray[np.intp]) -> Array:
            """Standardised features (B, F) of what was clicked; 1 in place of the time."""
            time = np.ones(len(chosen))
            x = np.column_stack([rows.user[chosen], time, rows.clicked_features(chosen)])
            return np.asarray((x - moments.offset) / moments.scale)

        def best_next(stage: int, weights: Array) -> Array:
            """Best values at the next steps, less their mean: that keeps the values small."""
            rated = replace(scorer, head=weights[None])
            best = np.empty(len(ongoing))
            for block in blocks(len(ongoing)):
                now = ongoing[block] + 1
                offered = rows.candidate_features(now)
                best[block] = rated.scores(rows.user[now], rows.step[now], offered).max(axis=1)
            progress(stage, self.window)
            return np.asarray(best - best.mean())

        design = np.concatenate(
            [monomials(known(ongoing[block]), powers) for block in blocks(len(ongoing))]
        )
        stages = list(
            backward_stages(
                design, rewards[ongoing].astype(np.float64), best_next, self.window, self.ridge
            )
        )
        progress(self.window, self.window)
        fitted = replace(
            scorer,
            user_size=spec.user_size,
            window=self.window,
            head=np.stack([stage.weights for stage in stages]),
            head_bias=np.zeros(self.window),
            decays=np.array(decays),
        )
        return Trained(fitted, {"residual": [stage.residual for stage in stages]})


def exponents(user_size: int, document_size: int, degree: int) -> NDArray[np.int64]:
    """(P, F) exponents of all monomials of (user, candidate) up to the degree; 0 for the time."""
    return np.array(
        [
            (*powers[:user_size], 0, *powers[user_size:])
            for powers in product(range(degree + 1), repeat=user_size + document_size)
            if sum(powers) <= degree
        ],
        dtype=np.int64,
    )
