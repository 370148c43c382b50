"""Slates that earn by more than the clicked item, or where its identity matters."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.slate_sessions import SlateSessions
from tests.evaluation.off_policy.slate_shop import SlateByKind
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

ITEMS, PLACES, ROWS = 6, 3, 4_000
LIKED = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.6])
ORDERED = np.array([0.2, 0.15, 0.1, 0.05, 0.0, 0.0])
"""Probabilities of a click on an item, and of an order of a seen item, whatever is clicked."""
SLATES = {"the best": [5, 4, 3], "the worst": [0, 1, 2], "both": [0, 5, 2]}
POLICIES = {name: SlateByKind([shown, shown]) for name, shown in SLATES.items()}
PAID = ("a click", "every click", "a click and orders")


def logs(folder, paid: str, seed: int):
    """Users look at each place by itself; the first click is logged."""
    rng = np.random.default_rng(seed)
    slates = rng.random((ROWS, ITEMS)).argsort(axis=1)[:, :PLACES]
    likes = rng.random(slates.shape) < LIKED[slates]
    orders = rng.random(slates.shape) < ORDERED[slates]
    table = slates_table(slates, first_liked(likes).astype(np.int32), ITEMS)
    if paid == "every click":
        table["reward"] = likes.sum(axis=1)
    elif paid == "a click and orders":
        table["reward"] = likes.any(axis=1) + 1.0 * orders.sum(axis=1)
    table["kind"] = np.array(["a", "b"])[rng.integers(0, 2, ROWS)]
    log(folder, "log.parquet", table)
    return published(folder, '[columns]\nuser = ["kind"]\nclicked = "clicked"\n')


def value(paid: str, slate: list[int]) -> float:
    """Expected reward of a slate."""
    click = 1 - np.prod(1 - LIKED[slate])
    of_orders = ORDERED[slate].sum() if paid == "a click and orders" else 0.0
    return float(LIKED[slate].sum() if paid == "every click" else click + of_orders)


@pytest.mark.parametrize("paid", PAID)
def test_what_a_slate_earns_beside_the_clicked_item_counts(tmp_path, paid):
    dataset = logs(tmp_path, paid, 0)
    assert SlateSessions(dataset.read(), dataset.spec).sessions.sight_pays == (paid != "a click")
    found = estimate_policies(dataset, POLICIES, held_out_only=False).policies
    for name, slate in SLATES.items():
        assert found[name].refusal is None, name
        low, high = found[name].contributions.interval(0.999)
        assert low <= value(paid, slate) <= high, name
