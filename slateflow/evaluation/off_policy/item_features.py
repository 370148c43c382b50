"""Features of shown items: a polynomial, and indicators of items that differ beyond their columns.

Users may like one of two items with the same columns more than the other, and the logging policy
may have known it. A model that sees only columns then gives both items the value of those that the
logs show, not of those that another policy shows, and weights that see only columns do not correct
the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slateflow.evaluation.off_policy.standardised import standardised
from slateflow.evaluation.off_policy.value_basis import ASKED_ROWS
from slateflow.held_out_choice import LEAST_SESSIONS, least_lost, other_half_losses
from slateflow.trajectories import Trajectories
from slateflow.trajectories.item_effects import MOST_ITEMS
from slateflow.user_models.polynomial import Polynomial, independent

Array = NDArray[np.float64]

MOST_LIKED_PRODUCTS = 500
"""Most products of users' columns and indicators of items."""


@dataclass(frozen=True)
class ItemFeatures:
    """Features of users and the items that they are shown.

    Attributes:
        polynomial: Polynomial of the user, whose columns come first, and the item.
        users: Number of the user's columns.
        items: Number of items with indicators, which replace the monomials of items alone; 0 for
            none.
        liked_by: Number of the user's columns that have products with each of these indicators.
        kept: Mask of the features that are kept; None for all.
    """

    polynomial: Polynomial
    users: int
    items: int = 0
    liked_by: int = 0
    kept: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.degrees[0])

    def independent_in(self, x: Array, item: NDArray[np.intp]) -> ItemFeatures:
        """The linearly independent features, on the same columns and items as `design`.

        Features of the user alone, and low degrees, take precedence.
        """
        of_user, of_item = self.degrees
        order = np.lexsort([of_user + of_item, of_item > 0])
        kept = np.zeros(len(order), np.bool_)
        kept[order] = independent(self.design(x, item)[:, order])
        return replace(self, kept=kept)

    def design(self, x: Array, item: NDArray[np.intp]) -> Array:
        """(R, P) features from columns (R, F) and item numbers (R,); item 0 has no indicator."""
        design = self._every(x, item)
        return design if self.kept is None else design[:, self.kept]

    def _every(self, x: Array, item: NDArray[np.intp]) -> Array:
        design = self.polynomial.design(x)
        if not self.items:
            return design
        indicators = item[:, None] == np.arange(1, self.items)
        liked = (design[:, self._liking, None] * indicators[:, None]).reshape(len(item), -1)
        kept = design[:, self._beside_items]
        return np.concatenate([kept, indicators, liked], axis=1, dtype=np.float64)

    @property
    def degrees(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(P,) degrees of the features in the user and in the item."""
        of_user, of_item = self.polynomial.degrees(self.users)
        if self.items:
            kept, own = (
                self._beside_items,
                np.ones((1 + self.liked_by) * (self.items - 1), np.int64),
            )
            liked = np.arange(len(own)) >= self.items - 1
            of_user, of_item = np.append(of_user[kept], liked * own), np.append(of_item[kept], own)
        return (of_user, of_item) if self.kept is None else (of_user[self.kept], of_item[self.kept])

    @property
    def _beside_items(self) -> NDArray[np.bool_]:
        of_user, of_item = self.polynomial.degrees(self.users)
        return np.asarray((of_user > 0) | (of_item == 0))

    @property
    def _liking(self) -> NDArray[np.intp]:
        """(L,) numbers of the monomials that are a column of the user."""
        powers = self.polynomial.powers
        own = (powers.sum(axis=1) == 1) & (powers[:, : self.liked_by].sum(axis=1) == 1)
        return np.flatnonzero(own)


def first_items(rows: Trajectories) -> NDArray[np.intp]:
    """(R,) numbers of the items that were shown first; 0 without a catalogue."""
    if rows.catalogue is None:
        return np.zeros(len(rows), np.intp)
    return rows.shown_items()[:, 0]


def chosen_features(
    rows: Trajectories, x: Array, polynomial: Polynomial, liked_by: int = 0
) -> ItemFeatures:
    """The polynomial's features, with indicators of items if they predict held-out visitors better.

    The features predict rewards and the ends of sessions.

    Args:
        rows: Whole sessions.
        x: (R, F) columns of the user, which come first, and of the shown item.
        polynomial: A polynomial of these columns.
        liked_by: Number of the user's columns that may have products with each indicator.
    """
    plain = ItemFeatures(polynomial, rows.user.shape[1])
    if rows.catalogue is None or len(rows.starts) < LEAST_SESSIONS:
        return plain
    items = len(rows.catalogue)
    if not rows.catalogue.features.shape[1] < items <= MOST_ITEMS:
        return plain
    asked = rows.in_some_sessions(ASKED_ROWS)
    few, x = rows.where(asked), x[asked]
    item, visitor = first_items(few), few.visitors
    explained = standardised(np.column_stack([few.reward, ~few.last]))

    def losses(features: ItemFeatures) -> Array:
        return other_half_losses(features.design(x, item), explained, visitor)

    options = [ItemFeatures(polynomial, plain.users, items)]
    if liked_by and (1 + liked_by) * items <= MOST_LIKED_PRODUCTS:
        options.append(ItemFeatures(polynomial, plain.users, items, liked_by))
    return least_lost(plain, options, losses)
