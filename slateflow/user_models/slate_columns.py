"""Columns of users and items for regressions on slates, fitted to logs.

Held-out sessions choose whether clicks bend with a column more than products of users' and items'
columns do, as where users like items at the price that they can afford, and the number of knots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import (
    BEYOND_CHANCE,
    LEAST_SESSIONS,
    better,
    halves,
    least_lost,
    other_half_errors,
)
from slateflow.policies.slate_choice import Columns, user_features
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.schema import Trajectories
from slateflow.user_models.choices import Choices, SlateFeatures
from slateflow.user_models.conditional_logit import CHOICE_RIDGE, fit_conditional_logit
from slateflow.user_models.polynomial import KNOTS
from slateflow.user_models.prior import shrunk_means
from slateflow.user_models.splines import Knots

Array = NDArray[np.float64]

OF_USERS, SLATE_TERMS = 4, 400
"""Terms of a column of the user beside its products with the items, and most terms in all."""

ASKED_ITEMS, TOLD_APART_ITEMS = 50_000, 100_000
"""Most shown items in the tests, and in the test whether items differ beyond their columns, with as
many as in the check of unexplained clicks."""

PLACES = SlateFeatures(features_match=False, places=True)
"""Features of the slates in logs; the place determines how likely an item was seen."""

NO_ERROR = 1e-6
"""Squared errors of rewards, as a share of the largest, that count as 0: a click always earns 1."""


@dataclass(frozen=True)
class SlateColumns:
    """Columns of users and of items."""

    user: Columns
    item: Columns

    @classmethod
    def of(cls, user: Array, item: Array, of_user: Knots, of_item: Knots) -> Self:
        """Columns with the moments of users (R, U) and items (S, D), which bend at knots."""
        return cls(_columns(user, of_user), _columns(item, of_item))

    def of_rows(self, rows: Trajectories) -> Trajectories:
        """The rows with these columns in place of their own."""
        rows = replace(rows, user=self.user.seen(rows.user).astype(np.float32))
        if rows.catalogue is None:
            return replace(rows, candidates=self.item.seen(rows.candidates).astype(np.float32))
        items = self.item.seen(rows.catalogue.features).astype(np.float32)
        return replace(rows, catalogue=Catalogue(items))


def chosen_columns(
    rows: Trajectories, features_match: bool, rows_per_term: int
) -> SlateColumns | None:
    """The columns of logged slates, with hinges where held-out sessions show that clicks bend.

    None where users are observed in the features of the candidates: columns stay as they are there,
    as clicks depend on a power of the affinity between user and candidate.

    Args:
        rows: Whole sessions.
        features_match: Whether users are observed in the features of the candidates.
        rows_per_term: Logged slates for each term from which more than the fewest knots are tried.
    """
    if features_match:
        return None
    items = rows.candidate_features(slice(1)).shape[2]
    user = rows.user.astype(np.float64)
    shown = rows.shown_features().reshape(-1, items).astype(np.float64)
    none = Knots.none()
    plain = SlateColumns.of(user, shown, none, none)
    if len(rows.starts) < LEAST_SESSIONS:
        return plain
    options: dict[tuple[int, int], SlateColumns] = {}
    for count in KNOTS:
        most = min(SLATE_TERMS, len(rows) // rows_per_term if options else SLATE_TERMS)
        of_user, of_item = Knots.at_quantiles(user, count), Knots.at_quantiles(shown, count)
        for knots in ((of_user, none), (none, of_item), (of_user, of_item)):
            users, bent = user.shape[1] + len(knots[0].feature), items + len(knots[1].feature)
            if users * (bent + OF_USERS) + bent <= most:
                options[users, bent] = SlateColumns.of(user, shown, *knots)
    options.pop((user.shape[1], items), None)
    few = few_sessions(rows)
    expected = _expected(plain.of_rows(few))
    return least_lost(
        plain, [*options.values()], lambda one: _click_losses(one.of_rows(few), expected)
    )


def seen_in(columns: SlateColumns | None, rows: Trajectories) -> Trajectories:
    """The rows with these columns, or unchanged without any."""
    return rows if columns is None else columns.of_rows(rows)


def with_columns_of_their_own(
    rows: Trajectories, rows_per_term: int, alone_per_term: int
) -> tuple[Trajectories, int]:
    """The rows with a column for each item, where held-out sessions show that features miss some.

    Where these columns would have too many products with the users', they have none, if the
    identity of the item matters.

    Args:
        rows: Whole sessions, with the columns of the regressions.
        rows_per_term: Fewest logged slates per term.
        alone_per_term: Fewest logged slates per term, for columns without products.

    Returns:
        The rows, and the number of their items' last columns that have no products.
    """
    few = few_sessions(rows, TOLD_APART_ITEMS)
    if rows.catalogue is None or len(rows.starts) < LEAST_SESSIONS or not (few.clicked >= 0).any():
        return rows, 0
    features, items = rows.catalogue.features, len(rows.catalogue)
    every = np.concatenate([features, np.eye(items, dtype=np.float32)], axis=1)
    alone = _own_terms(rows) > _most(rows, rows_per_term)
    if not 0 < _own_terms(rows, alone) <= _most(rows, alone_per_term if alone else rows_per_term):
        return rows, 0
    own, expected = replace(rows, catalogue=Catalogue(every)), _expected(few)
    if _items_matter(few, expected):
        return own, items if alone else 0
    if alone:
        return rows, 0
    found = least_lost(
        rows, [own], lambda one: _click_losses(few_sessions(one, TOLD_APART_ITEMS), expected)
    )
    return found, 0


def _own_terms(rows: Trajectories, alone: bool = False) -> int:
    """Number of terms with a column for each item; 0 where there are as many features as items.

    Args:
        rows: Rows with the columns of the regressions.
        alone: Whether the new columns have no products.
    """
    if rows.catalogue is None or rows.catalogue.features.shape[1] >= len(rows.catalogue):
        return 0
    features, items = rows.catalogue.features.shape[1], len(rows.catalogue)
    multiplied = features if alone else features + items
    terms: int = rows.user.shape[1] * (multiplied + OF_USERS) + features + items
    return terms


def too_many_of_their_own(rows: Trajectories, rows_per_term: int) -> str | None:
    """A message if columns for each item and their products are too many to try; otherwise None.

    Args:
        rows: Whole sessions, with the columns of the regressions.
        rows_per_term: Fewest logged slates per term.
    """
    terms, most = _own_terms(rows), _most(rows, rows_per_term)
    if terms <= most:
        return None
    of_slates = f"of {len(rows):,} slates {most:,} at most are learnt"
    products = "with a column for each item, and its products with the users', there are"
    return f"{products} {terms:,} terms, and {of_slates}"


def _most(rows: Trajectories, rows_per_term: int) -> int:
    return min(SLATE_TERMS, len(rows) // rows_per_term)


def _items_matter(rows: Trajectories, expected: Array) -> bool:
    """True if the identity of the item matters for unexpected clicks, or for their rewards.

    An item's appeal is a single number here, which needs less data than all its products with
    users.
    """
    surprise, every = (rows.clicks - expected).ravel(), np.ones(rows.slate.size, np.bool_)
    return _tells(rows, surprise, every, BEYOND_CHANCE) or items_pay_more(rows)


def items_pay_more(rows: Trajectories, standard_errors: float = BEYOND_CHANCE) -> bool:
    """True if the identity of the item predicts the reward of a click beyond the columns.

    Args:
        rows: Whole sessions, with the columns of the regressions.
        standard_errors: Standard errors by which the losses of held-out visitors have to fall.
    """
    few = few_sessions(rows, TOLD_APART_ITEMS)
    if rows.catalogue is None or len(rows.starts) < LEAST_SESSIONS or not (few.clicked >= 0).any():
        return False
    clicked = few.clicks.ravel()
    shown = SlateFeatures(False).of(few.user, few.shown_features())
    design = np.concatenate(
        [np.ones((few.slate.size, 1)), shown.reshape(few.slate.size, -1)], axis=1
    )
    reward = np.where(few.clicks, few.reward[:, None], np.float64(0)).ravel()
    half = halves(few.visitors_by_place) == 0
    paid = other_half_errors(design * clicked[:, None], reward, half)
    paid[np.square(paid) < NO_ERROR * np.square(reward).max()] = 0.0
    return _tells(few, paid, clicked, standard_errors)


def _tells(
    rows: Trajectories, errors: Array, asked: NDArray[np.bool_], standard_errors: float
) -> bool:
    """True if the mean error of an item in one half of the visitors predicts errors in the other.

    Args:
        rows: Whole sessions.
        errors: (S,) errors of the shown items.
        asked: (S,) mask of the errors in the test.
        standard_errors: Standard errors by which the losses have to fall.
    """
    item, visitor = rows.shown_items().ravel()[asked], rows.visitors_by_place[asked]
    errors, half = errors[asked], halves(visitor) == 0
    told = np.where(half, *(shrunk_means(item, errors, one) for one in (~half, half)))
    plain, ours = (
        np.bincount(visitor, np.square(one)).astype(np.float64) for one in (errors, errors - told)
    )
    return better(plain, ours, standard_errors)


def likeness_matters(
    rows: Trajectories, features: SlateFeatures, standard_errors: float = BEYOND_CHANCE
) -> bool:
    """True if users click less, or more, on items that are like the rest of the slate.

    Held-out sessions decide. Users may have enough of a kind once they have seen one item, or may
    look for several.

    Args:
        rows: Whole sessions, with the columns of the regressions.
        features: Features of items without their likeness.
        standard_errors: Standard errors by which the losses of held-out sessions have to fall.
    """
    if len(rows.starts) < LEAST_SESSIONS or rows.slate.shape[1] < 2:
        return False
    few, features = few_sessions(rows), replace(features, places=True)
    expected, both = _expected(few, features), (features, replace(features, alike=True))
    without, ours = (_click_losses(few, expected, one) for one in both)
    return better(without, ours, standard_errors)


def _columns(x: Array, knots: Knots) -> Columns:
    """Moments of columns (R, F); those of two values become indicators of the larger one.

    So it does not matter how they are coded: 0 and 1, 1 and 2, or 10 and 20. A single value may be
    that of an indicator.
    """
    x = np.concatenate([x, knots.hinges(x)], axis=1)
    low, high = x.min(axis=0), x.max(axis=0)
    few = ((x == low) | (x == high)).all(axis=0)
    indicator = few & (low == high) & ((low == 0) | (low == 1))
    offset = np.where(few, np.where(indicator, 0.0, low), x.mean(axis=0))
    scale = np.where(few, np.where(low == high, 1.0, high - low), x.std(axis=0))
    return Columns(knots.feature.astype(np.int64), knots.value, offset, scale)


def few_sessions(rows: Trajectories, most: int = ASKED_ITEMS) -> Trajectories:
    """A sample of the sessions, if there are too many to use all."""
    return rows.some_sessions(most // rows.slate.shape[1])


def _expected(rows: Trajectories, features: SlateFeatures = PLACES) -> Array:
    """(R, K) probabilities of clicks by a conditional logit of the columns as they are."""
    if not (rows.clicked >= 0).any():
        return np.zeros(rows.slate.shape)
    choices = Choices.from_rows(rows, features)
    model = fit_conditional_logit(choices, CHOICE_RIDGE)
    return np.asarray(np.exp(model.log_probabilities(choices.shown)[0, :, :-1]))


def _click_losses(rows: Trajectories, expected: Array, features: SlateFeatures = PLACES) -> Array:
    """(V,) squared errors of regressions on the other half of the visitors.

    These regress clicks beyond the expected ones (R, K) on features × the slope of a probability in
    its log-odds, which may be linear in a column where probabilities are not; and rewards of
    clicks on features.
    """
    places = rows.slate.shape[1]
    shown = features.of(rows.user, rows.shown_features())
    state = np.repeat(user_features(rows.user), places, axis=0)
    design = np.concatenate([state, shown.reshape(len(state), -1)], axis=1)
    clicked = rows.clicks.ravel()
    likely, half = expected.ravel(), halves(rows.visitors_by_place) == 0
    lost = np.zeros(len(clicked))
    for target, weight in (
        (clicked - likely, likely * (1 - likely)),
        (clicked * np.repeat(rows.reward, places), clicked),
    ):
        scale = float(target.std()) or 1.0
        lost += np.square(other_half_errors(design * weight[:, None], target / scale, half))
    return np.bincount(rows.visitors, lost.reshape(-1, places).sum(axis=1)).astype(np.float64)
