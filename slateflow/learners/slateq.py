"""SlateQ from logs: a learnt choice model, and values of items by least-squares policy iteration.

`user_models.item_values` solves for the values (Ie et al. 2019, "SlateQ"; Lagoudakis
and Parr 2003, "Least-Squares Policy Iteration"). The first policy is greedy on the returns that
the logs saw, each next one on the values of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    Trained,
)
from slateflow.learners.passes import repeatable, sampled
from slateflow.learners.search_space import OneOf, Range, Space
from slateflow.policies import Slates, top_slates
from slateflow.policies.slate_scorer import (
    Offer,
    SlateScorer,
    item_features,
    optimal_gains,
    user_features,
)
from slateflow.progress import Progress
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.schema import blocks
from slateflow.trajectories.variation import check_variation
from slateflow.user_models.choice_model import Choices, fit_choice_model
from slateflow.user_models.evidence import WeightGroups
from slateflow.user_models.item_values import ItemValues, Members, Rows, Sessions
from slateflow.validation import validated

Array = NDArray[np.float64]

SAMPLE_ROWS = 200_000
"""Rows that are in memory together, at most; of more, every so many sessions choose the model of
clicks, and the parts are read at every iteration."""


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
    ridge: NonNegative = 0.0
    """Precision of the prior on the weights; with 0 the logs choose one for each group of them."""
    classes: CountOrZero = 0
    """Latent classes of users in the choice model; 0 takes as many as held-out clicks ask for."""
    construction: Literal["optimal", "greedy", "top-k"] = "optimal"
    """How a slate is made: `optimal`, `greedy` or `top-k`."""

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Fit the choice model, then iterate; the curve is the change of the values."""
        spec = dataset.spec
        sample = sampled(dataset, SAMPLE_ROWS, _check_finite)
        check_variation(sample)
        rng = np.random.Generator(np.random.SFC64(seed))
        prior = self.ridge or WeightGroups.of_items(spec)
        choices = Choices.from_rows(sample, spec.features_match)
        choice = fit_choice_model(choices, self.classes, prior, rng)

        def read() -> Iterator[tuple[Sessions, Array]]:
            for rows in dataset.iter_parts():
                yield (
                    Sessions.from_rows(rows, spec, affinities=True),
                    Choices.from_rows(rows, spec.features_match).members(choice),
                )

        passing = repeatable(read, dataset.rows <= SAMPLE_ROWS)

        def of_class(group: int) -> ItemValues:
            def parts() -> Iterator[Members]:
                return (Members(sessions, member[:, group]) for sessions, member in passing())

            return ItemValues(parts, choice.of_class(group), prior)

        classes = [of_class(group) for group in range(len(choice.shares))]
        curves = Curves()
        for done in range(1, self.iterations + 1):
            change = max(one.follow(greedy_policy(one)) for one in classes)
            curves.add("value_change", change)
            progress(done, self.iterations)
            if change < self.tolerance:
                break
        for one in classes:
            one.shrink()
        click, item, none = (
            np.stack(part) for part in zip(*(one.parts for one in classes), strict=True)
        )
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
            features_match=spec.features_match,
        )
        return Trained(scorer, curves)


def _check_finite(rows: Trajectories) -> None:
    numbers = rows.candidates.shape[1] * rows.candidate_features(slice(1)).shape[-1]
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


def greedy_policy(values: ItemValues) -> Callable[[Sessions, Rows], Slates]:
    """The slates of greatest value, by the values as they are now."""
    click, item, none = values.parts

    def slates(sessions: Sessions, block: Rows) -> Slates:
        """Rows with the same number of candidates at a time."""
        rows = sessions.rows
        offered, found = rows.offered[block], np.empty((len(block), rows.slate.shape[1]), np.int32)
        for count in np.unique(offered):
            alike = np.flatnonzero(offered == count)
            found[alike] = best(sessions, block[alike], count)
        return found

    def best(sessions: Sessions, block: Rows, count: int) -> Slates:
        rows = sessions.rows
        offered = rows.candidate_features(block)[:, :count]
        features = item_features(rows.user[block], offered, sessions.features_match)
        state = user_features(rows.user[block])
        offer = Offer(
            belief=np.ones((1, len(block))),
            attraction=values.choice.attraction(features),
            values=(features @ item + (state @ click)[:, None])[None],
            none=(state @ none)[None],
        )
        places = rows.slate.shape[1]
        return top_slates(optimal_gains(offer, places), places)

    return slates
