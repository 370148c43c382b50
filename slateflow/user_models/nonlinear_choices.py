"""Features of users' choices from slates where log-odds bend, chosen by held-out visitors.

A conditional logit is linear in products of users' and items' columns. Odds that are a power of
such a sum, or the sum itself, bend with it as a whole: hinges of the fitted log-odds model that (a
test of the link, and its repair: Pregibon 1980, "Goodness of Link Tests for Generalized Linear
Models"). Other tastes bend along sums of columns; random features model these. Where users are
observed in the features of items there are hinges of the affinity instead: the logarithm of odds
that are proportional to it is not a cubic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import BEYOND_CHANCE, LEAST_SESSIONS, better
from slateflow.policies.slate_choice import ChoiceModel, Link
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.cascade import fit_alike, likelier_habit
from slateflow.user_models.choices import Choices, SlateFeatures
from slateflow.user_models.prior import WeightGroups
from slateflow.user_models.random_features import MOST_BESIDE, drawn_of
from slateflow.user_models.slate_columns import few_sessions
from slateflow.user_models.splines import Knots

Array = NDArray[np.float64]

UNITS_OF_SLATES = 100
"""Number of random features of a model that has any."""

KNOTS_OF_LINK = 3
"""Number of knots of the link besides the one at the least log-odds."""

SPANS_OF_AFFINITY = 8
"""Spans of equal width between knots of the affinity: quantiles would leave out items that policies
with a preference for the nearest, or the furthest, seldom show (Eilers and Marx 1996, "Flexible
Smoothing with B-splines and Penalties")."""


def with_bends(
    rows: Trajectories, features: SlateFeatures, own: tuple[int, int], cascade: bool = False
) -> SlateFeatures:
    """The features plus a link, and random features, if each makes choices likelier.

    Where users are observed in the features of items, the link alone is tried.

    Args:
        rows: Whole sessions, with the columns of the regressions.
        features: Features of items without bends.
        own: Numbers of the user's and of the items' logged columns; hinges, and columns of an item
            alone, follow these.
        cascade: Whether to let users look from the top, if that makes choices likelier.
    """
    if len(rows.starts) < LEAST_SESSIONS:
        return features
    few = few_sessions(rows)
    plain, half = Choices.from_rows(few, features), few.halves[few.starts] == 0
    clicks = plain.has_click
    if not (clicks[half].any() and clicks[~half].any()):
        return features
    if features.features_match:
        bent = replace(features, link=_of_affinity(few, features))
        likelier = bent.link is not None and _likelier(few, features, lambda _: bent, None)
        return bent if likelier else features
    habit = likelier_habit(plain, _prior(few, features)) if cascade else None
    with_link = partial(_with_link, few, features, habit)
    if _likelier(few, features, with_link, habit):
        features = with_link(np.ones(len(half), np.bool_))
    users, (_, places, items) = few.user.shape[1], few.shown_features().shape
    known = np.repeat(few.user, places, axis=0), few.shown_features().reshape(-1, items)
    counted = np.concatenate([np.arange(users) < own[0], np.arange(items) < own[1]])
    random = drawn_of(np.concatenate(known, axis=1).astype(np.float64), counted, UNITS_OF_SLATES)
    if not len(random) or plain.shown.shape[2] > MOST_BESIDE:
        return features
    both = replace(features, random=random)
    return both if _likelier(few, features, lambda _: both, habit) else features


def _of_affinity(rows: Trajectories, features: SlateFeatures) -> Link | None:
    """Hinges of the affinity between the least and the largest shown; None if these are equal."""
    known = features.of_items(rows.user, rows.shown_features())
    weights = np.zeros(known.shape[2])
    weights[rows.user.shape[1]] = 1.0  # after the document's own features
    affinity = (known @ weights).reshape(-1, 1)
    knots = np.linspace(affinity.min(), affinity.max(), SPANS_OF_AFFINITY + 1)[1:-1]
    hinges = np.square(np.maximum(affinity - knots, 0.0))
    offset, scale = hinges.mean(axis=0), hinges.std(axis=0)
    return Link(weights, knots, offset, scale) if scale.all() else None


def _with_link(
    rows: Trajectories,
    features: SlateFeatures,
    habit: ChoiceModel | None,
    told: NDArray[np.bool_],
) -> SlateFeatures:
    """The features with a link fitted to the sessions in `told` (E,)."""
    choices = Choices.from_rows(rows, features).only(told)
    model = fit_alike(habit, choices, _prior(rows, features))
    users, items = rows.user.shape[1], rows.shown_features().shape[2]
    user, known = np.split(choices.shown, [users], axis=2)
    told_by = users + items + users * (items - features.alone)
    link = Link(model.weights[0, :told_by], *np.zeros((3, 0)))
    odds = link.odds(user, known).reshape(-1, 1)
    knots = Knots.at_quantiles(odds, KNOTS_OF_LINK)
    hinges = knots.hinges(odds)
    found = replace(link, knots=knots.value, offset=hinges.mean(axis=0), scale=hinges.std(axis=0))
    return replace(features, link=found)


def _likelier(
    rows: Trajectories,
    features: SlateFeatures,
    others: Callable[[NDArray[np.bool_]], SlateFeatures],
    habit: ChoiceModel | None,
) -> bool:
    """True if other features, fitted to half of the visitors, make the others' choices likelier.

    Args:
        rows: Whole sessions.
        features: The plain features.
        others: Makes the other features from the sessions in a mask (E,).
        habit: Model of how users look at slates; None: at once.
    """
    half = rows.halves[rows.starts] == 0
    lost = np.zeros((2, len(half)))
    for out in (half, ~half):
        for number, known in enumerate((features, others(~out))):
            choices = Choices.from_rows(rows, known)
            model = fit_alike(habit, choices.only(~out), _prior(rows, known))
            lost[number, out] = -choices.only(out).session_log_likelihoods(model)
    visitor = rows.visitors[rows.starts]
    without, ours = (np.bincount(visitor, one).astype(np.float64) for one in lost)
    return better(without, ours, BEYOND_CHANCE)


def _prior(rows: Trajectories, features: SlateFeatures) -> WeightGroups:
    _, places, items = rows.shown_features().shape
    return features.groups(rows.user.shape[1], items, places)
