"""SlateQ from logs: a learnt choice model, and values of items by least-squares policy iteration.

How values are solved for stands in `evaluation.item_values` (Ie et al. 2019, "SlateQ"; Lagoudakis
and Parr 2003, "Least-Squares Policy Iteration"). The first policy is greedy on the returns that
the logs saw, each next one on the values of the one before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.learners.config import SlateQConfig
from slateflow.policies import Slates, top_slates
from slateflow.policies.slate_scorer import (
    Offer,
    SlateScorer,
    item_features,
    optimal_gains,
    user_features,
)
from slateflow.trajectories import Dataset
from slateflow.trajectories.clicked import clicked_features
from slateflow.user_models.choice_model import Choices, fit_choice_model
from slateflow.user_models.item_values import ItemValues, Rows, Sessions

Array = NDArray[np.float64]


def train_slateq(
    dataset: Dataset,
    config: SlateQConfig,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[SlateScorer, dict[str, list[float]]]:
    """Train from logged slates.

    Args:
        dataset: Of any world; episodes may differ in length.
        config: The learner's settings.
        seed: Of the choice model's classes.
        progress: Called with the finished and all policy iterations.

    Returns:
        The scorer, and by policy iteration how much the values changed.

    Raises:
        InputError: The dataset cannot be learnt from.
    """
    rows = dataset.read()
    clicked_features(rows)  # raises where they cannot teach anything
    for name in ("user", "candidates", "reward"):
        if not np.isfinite(getattr(rows, name)).all():
            raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
    sessions = Sessions.of(rows)
    choices = Choices.of(rows, sessions.starts)
    rng = np.random.Generator(np.random.SFC64(seed))
    choice = fit_choice_model(choices, config.classes, config.ridge, rng)
    member = choices.members(choice)
    classes = [
        ItemValues(sessions, choice.of_class(g), member[:, g], config.ridge)
        for g in range(len(choice.shares))
    ]
    changes: list[float] = []
    for done in range(1, config.iterations + 1):
        changes.append(max(one.follow(greedy_policy(one)) for one in classes))
        progress(done, config.iterations)
        if changes[-1] < config.tolerance:
            break
    click, item, none = (
        np.stack(part) for part in zip(*(one.parts for one in classes), strict=True)
    )
    spec = dataset.spec
    scorer = SlateScorer(
        user_size=spec.user_size,
        document_size=spec.document_size,
        slate_size=spec.slate_size,
        construction=config.construction,
        choice_weights=choice.weights,
        choice_no_click=choice.no_click,
        choice_shares=choice.shares,
        item_values=item,
        click_values=click,
        no_click_values=none,
    )
    return scorer, {"value_change": changes}


def greedy_policy(values: ItemValues) -> Callable[[Rows], Slates]:
    """The slates of greatest value, by the values as they are now."""
    rows, (click, item, none) = values.sessions.rows, values.parts

    def slates(block: Rows) -> Slates:
        features = item_features(rows.user[block], rows.candidates[block])  # (B, N, P)
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
