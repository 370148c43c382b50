"""SlateQ from logs: a learnt choice model, and values of items by least-squares policy iteration.

`user_models.item_values` solves for the values (Ie et al. 2019, "SlateQ"; Lagoudakis
and Parr 2003, "Least-Squares Policy Iteration"). The first policy is greedy on the returns that
the logs saw, each next one on the values of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.learners.config import (
    Count,
    CountOrZero,
    Curves,
    LearnerConfig,
    NonNegative,
    Progress,
    Trained,
)
from slateflow.learners.search_space import OneOf, Range, Space
from slateflow.policies import Slates, top_slates
from slateflow.policies.slate_scorer import (
    Offer,
    SlateScorer,
    item_features,
    optimal_gains,
    user_features,
)
from slateflow.trajectories import Dataset
from slateflow.trajectories.schema import blocks
from slateflow.trajectories.variation import check_variation
from slateflow.user_models.choice_model import Choices, fit_choice_model
from slateflow.user_models.item_values import ItemValues, Rows, Sessions
from slateflow.validation import validated

Array = NDArray[np.float64]


@validated
class SlateQConfig(LearnerConfig):
    """Values of items and a choice model, by least-squares policy iteration (Ie et al. 2019)."""

    learner: ClassVar[str] = "slateq"
    user_chooses: ClassVar[bool | None] = True
    search_space: ClassVar[Space] = {
        "ridge": Range(1e-3, 1e2, log=True),
        "classes": OneOf((1, 2, 4)),
        "iterations": OneOf((1, 3, 10)),
    }

    iterations: Count = 10
    """Most policy iterations."""
    tolerance: NonNegative = 1e-4
    """Relative change of the values at which the iteration ends."""
    ridge: NonNegative = 0.1
    """Precision of the prior on the weights."""
    classes: CountOrZero = 0
    """Latent classes of users in the choice model; 0 takes as many as held-out clicks ask for."""
    construction: Literal["optimal", "greedy", "top-k"] = "optimal"
    """How a slate is made: `optimal`, `greedy` or `top-k`."""

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Fit the choice model, then iterate; the curve is the change of the values."""
        rows = dataset.read()
        check_variation(rows)
        numbers = dataset.spec.num_candidates * dataset.spec.document_size
        for name, finite in {
            "user": np.isfinite(rows.user).all(),
            "candidates": all(
                np.isfinite(rows.candidate_features(block)).all()
                for block in blocks(len(rows), numbers)
            ),
            "reward": np.isfinite(rows.reward).all(),
        }.items():
            if not finite:
                raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
        choices = Choices.from_rows(rows)
        rng = np.random.Generator(np.random.SFC64(seed))
        choice = fit_choice_model(choices, self.classes, self.ridge, rng)
        member = choices.members(choice)
        sessions = Sessions.from_rows(rows, dataset.spec)
        classes = [
            ItemValues(sessions, choice.of_class(g), member[:, g], self.ridge)
            for g in range(len(choice.shares))
        ]
        curves = Curves()
        for done in range(1, self.iterations + 1):
            change = max(one.follow(greedy_policy(one)) for one in classes)
            curves.add("value_change", change)
            progress(done, self.iterations)
            if change < self.tolerance:
                break
        click, item, none = (
            np.stack(part) for part in zip(*(one.parts for one in classes), strict=True)
        )
        spec = dataset.spec
        scorer = SlateScorer(
            user_size=spec.user_size,
            document_size=spec.document_size,
            slate_size=spec.slate_size,
            construction=self.construction,
            choice_weights=choice.weights,
            choice_no_click=choice.no_click,
            choice_shares=choice.shares,
            item_values=item,
            click_values=click,
            no_click_values=none,
        )
        return Trained(scorer, curves)


def greedy_policy(values: ItemValues) -> Callable[[Rows], Slates]:
    """The slates of greatest value, by the values as they are now."""
    rows, (click, item, none) = values.sessions.rows, values.parts
    offered, places = rows.offered, rows.slate.shape[1]

    def slates(block: Rows) -> Slates:
        """Rows with the same number of candidates at a time."""
        found = np.empty((len(block), places), np.int32)
        for count in np.unique(offered[block]):
            alike = np.flatnonzero(offered[block] == count)
            found[alike] = best(block[alike], count)
        return found

    def best(block: Rows, count: int) -> Slates:
        features = item_features(rows.user[block], rows.candidate_features(block)[:, :count])
        state = user_features(rows.user[block])
        offer = Offer(
            belief=np.ones((1, len(block))),
            attraction=values.choice.attraction(features),
            values=(features @ item + (state @ click)[:, None])[None],
            none=(state @ none)[None],
        )
        return top_slates(optimal_gains(offer, places), places)

    return slates
