"""Slates of policies that follow what visitors search for, or what is on offer to them."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.earlier_visits import Visits
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.slate_inclusion import (
    common_items,
    inclusion,
    items_on_offer,
)
from slateflow.policies import RandomPolicy
from slateflow.policies.softmax import sequential_propensities
from tests.trajectories.sources.shop import first_liked, log, published

ITEMS, PLACES, KINDS, VISITS = 12, 3, 6, 8
KIND = np.arange(ITEMS) % KINDS
SAYS = "what visitors do depends on what they saw on earlier visits"


def searches(rng: np.random.Generator, visitors: int, left: float = 1.0, on_offer: int = ITEMS):
    """Logs of visitors who search for kinds that they like, and of a policy that follows.

    If not all items are on offer, mostly those are that a visitor likes. Of a like, a share `left`
    remains each time that an item was seen.

    Returns:
        A table of (R,) visitors, searches, propensities and clicked places (−1 for none), (R, 3)
        slates, and (R, N) items on offer.
    """
    who, taste = np.arange(visitors), rng.normal(size=(visitors, KINDS))
    seen, tables = np.zeros((visitors, ITEMS)), []
    for _ in range(VISITS):
        search = np.argmax(taste + rng.gumbel(size=taste.shape), axis=1)
        liked = taste[:, KIND]
        offered = np.argsort(-liked - rng.gumbel(size=liked.shape), axis=1)[:, :on_offer]
        odds = np.where(KIND[offered] == search[:, None], 2.0, 0.0)
        place = np.argsort(-odds - rng.gumbel(size=odds.shape), axis=1)[:, :PLACES]
        slate = np.take_along_axis(offered, place, axis=1)
        clicks = -1.5 + liked + np.log(left) * seen
        click = 1 / (1 + np.exp(-np.take_along_axis(clicks, slate, axis=1)))
        clicked = first_liked(rng.random(click.shape) < click)
        seen[who[:, None], slate] += 1
        propensity = sequential_propensities(odds, place)
        tables.append((who, search, propensity, clicked, slate, offered))
    names = ("who", "search", "propensity", "clicked", "slate", "offered")
    return dict(zip(names, map(np.concatenate, zip(*tables, strict=True)), strict=True))


def refusal(rng: np.random.Generator, visitors: int, left: float = 1.0, on_offer: int = ITEMS):
    """The refusal, where clicks are expected by item, search and place."""
    made = searches(rng, visitors, left, on_offer)
    slate = made["slate"]
    clicks = (made["clicked"][:, None] == np.arange(PLACES)).astype(float)
    cell = (slate * KINDS + made["search"][:, None]) * PLACES + np.arange(PLACES)
    expected = (np.bincount(cell.ravel(), clicks.ravel()) / np.bincount(cell.ravel()))[cell]
    columns = np.eye(KINDS, dtype=np.float32)[made["search"]]
    order = np.arange(len(slate))
    visits = Visits(made["who"], order, slate.astype(np.int32), made["propensity"], columns)
    offered = None if on_offer == ITEMS else np.array_split(made["offered"], 3)
    return visits.refusal(clicks - expected, expected, offered)


@pytest.mark.parametrize("on_offer", [6, ITEMS])
def test_a_policy_that_follows_searches_is_no_reason(on_offer):
    """Earlier slates reveal what visitors like, but nothing depends on them."""
    rng = np.random.default_rng(1)
    assert [refusal(rng, 400, on_offer=on_offer) for _ in range(15)] == [None] * 15


@pytest.mark.parametrize("on_offer", [6, ITEMS])
def test_who_tires_of_what_was_seen_is_found_out(on_offer):
    assert SAYS in str(refusal(np.random.default_rng(2), 1_500, 0.6, on_offer))


@pytest.mark.parametrize("left", [1.0, 0.5])
def test_logs_of_searches(left, tmp_path):
    made = searches(np.random.default_rng(3), 900, left, on_offer=6)
    ids = np.array([f"i{item}" for item in range(ITEMS)])
    log(tmp_path, "log.parquet", {
        "who": made["who"],
        "search": np.array(list("abcdef"))[made["search"]],
        "item": ids[made["slate"]].tolist(),
        "offered": ids[made["offered"]].tolist(),
        "propensity": made["propensity"],
        "clicked": made["clicked"],
        "reward": (made["clicked"] >= 0).astype(np.int64),
    })  # fmt: skip
    columns = 'user = ["search"]\ncandidates = "offered"\nclicked = "clicked"\nvisitor = "who"'
    dataset = published(tmp_path, f"[columns]\n{columns}\n")
    found = estimate_policies(dataset, {"random": RandomPolicy(PLACES)}, held_out_only=False)
    assert (SAYS in str(found.policies["random"].refusal)) == (left < 1)


def test_inclusion_is_as_likely_as_the_policy_makes_it():
    """Of three items two are shown, by a softmax of bent preferences."""
    rng = np.random.default_rng(4)
    age = rng.uniform(-2, 2, 20_000)
    odds = np.column_stack([age, -age, age**2 - 1])
    slate = np.argsort(-odds - rng.gumbel(size=odds.shape), axis=1)[:, :2]
    pairs = [(one, other) for one in range(3) for other in range(3) if one != other]
    chance = [sequential_propensities(odds, np.tile(pair, (len(odds), 1))) for pair in pairs]
    expected = np.column_stack([
        sum(part for part, pair in zip(chance, pairs, strict=True) if item in pair)
        for item in range(3)
    ])  # fmt: skip
    included = (slate[:, :, None] == np.arange(3)).any(axis=1)
    found = inclusion(included, np.ones_like(included), age[:, None])
    assert np.abs(found - expected).max() < 0.05
    assert np.abs(found - expected).mean() < 0.01


def test_a_column_that_does_not_vary_changes_no_probability():
    """Up to rounding, by which its mean differs from 0.1."""
    rng = np.random.default_rng(4)
    columns, constant = rng.normal(size=(1_000, 2)), np.full((1_000, 1), 0.1)
    included = rng.random((1_000, 3)) < 1 / (1 + np.exp(-columns[:, :1]))
    expected = inclusion(included, np.ones_like(included), columns)
    found = inclusion(included, np.ones_like(included), np.hstack([columns, constant]))
    np.testing.assert_array_equal(found, expected)


def test_what_is_on_offer_is_looked_up_by_row():
    rng = np.random.default_rng(5)
    offered = np.argsort(rng.random((50, 9)), axis=1)[:, :4]
    offered[rng.random(offered.shape) < 0.2] = -1
    some, items = rng.permutation(50)[:30], np.array([1, 4, 7])
    expected = [[item in offered[row] for item in items] for row in some]
    found = items_on_offer(np.array_split(offered, 7), some, items)
    np.testing.assert_array_equal(found, expected)
    assert items_on_offer(None, some, items).all()


def test_items_that_are_shown_most_often_are_asked():
    item = np.repeat(np.arange(80), 1 + np.arange(80) % 40).astype(np.int32)[:, None]
    assert set(common_items(item)) >= {item for item in range(80) if item % 40 > 14}
    assert len(common_items(item)) == 50
    assert common_items(np.array([[3, 5]], np.int32)).tolist() == [3, 5]


def test_users_whose_columns_stay_are_asked_by_propensities():
    """As before: a policy with one answer for a visitor does not change."""
    rng = np.random.default_rng(6)
    slate = np.argsort(rng.random((600, ITEMS)), axis=1)[:, :PLACES].astype(np.int32)
    who, columns = np.arange(600) % 100, np.arange(100, dtype=np.float32)[:, None]
    surprise, expected = rng.normal(size=slate.shape), rng.random(slate.shape)
    found = [
        Visits(who, np.arange(600), slate, np.full(600, 1 / 1320), known)._statistic(
            surprise, expected, None
        )
        for known in (None, columns[who])
    ]
    assert found[0] == found[1]
