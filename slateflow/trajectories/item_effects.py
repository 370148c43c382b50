"""A test whether items earn more, or less, than their columns predict, and so need their ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.held_out_choice import LEAST_SESSIONS, least_lost, other_half_losses
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.some_sessions import some_sessions

Array = NDArray[np.float64]

MOST_ITEMS = 100
"""Most items that are distinguished by their ids."""

MOST_ID_PRODUCTS = 1_000
"""Most products of (1, user) and (1, item) with the ids: with more, learners leave out features
that are worth more than ids."""

COMPARED_ITEMS = 50_000
"""Most shown items in the test."""

COMPARED_NUMBERS = 20_000_000
"""Most numbers in the features of these items."""


def items_differ(dataset: Dataset) -> bool:
    """True if items with the same columns earn differently.

    The rewards of all shown items are regressed on the columns of user (with the place in the
    slate) and item and their products; then with indicators of the items in place of the item's
    columns. The other half of the visitors decides, by two standard errors. Held-out sessions are
    not used, as they evaluate what is learnt. False with as many columns as items, or over 100
    items.
    """
    catalogue, places = dataset.catalogue, dataset.spec.slate_size
    if catalogue is None or not catalogue.features.shape[1] < len(catalogue) <= MOST_ITEMS:
        return False
    terms = (dataset.spec.user_size + places) * (1 + catalogue.features.shape[1]) + len(catalogue)
    rows = some_sessions(dataset, min(COMPARED_ITEMS, COMPARED_NUMBERS // terms) // places)
    rows = rows.where(~dataset.hold_out.mask(rows))
    if len(rows.starts) < LEAST_SESSIONS:
        return False
    place = np.tile(np.arange(places), len(rows))
    item = rows.shown_items().ravel()
    paid = np.where(rows.clicks, rows.reward[:, None], np.float64(0)).ravel()
    user = np.repeat(rows.user, places, axis=0).astype(np.float64)
    user = np.column_stack([user, place[:, None] == np.arange(1, places)])
    own = np.asarray(item[:, None] == np.arange(1, len(catalogue)), np.float64)
    columns = np.asarray(catalogue.features[item], np.float64)
    user, columns = (one - one.mean(axis=0) for one in (user, columns))
    products = (user[:, :, None] * columns[:, None]).reshape(len(item), -1)

    def losses(of_items: Array) -> Array:
        x = np.column_stack([np.ones(len(item)), user, of_items, products])
        return other_half_losses(x, paid, rows.visitors_by_place)

    return least_lost(columns, [own], losses) is own


def told_apart(dataset: Dataset) -> bool:
    """True if items have their ids as features beside the columns that the recipe names."""
    columns, items = (dataset.recipe.get(key, {}) for key in ("columns", "items"))
    named, own = items.get("features", ()), items.get("id") or columns.get("item", "item")
    features = getattr(dataset.spec, "item_features", ())
    return bool(named) and own not in named and any(one.startswith(f"{own}=") for one in features)


def ids_fit(dataset: Dataset) -> bool:
    """True if learners can use the ids of items beside their columns."""
    spec = dataset.spec
    return (1 + spec.user_size) * (1 + spec.document_size + spec.items) <= MOST_ID_PRODUCTS
