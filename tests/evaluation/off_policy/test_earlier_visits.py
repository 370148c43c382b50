"""Logs are refused if visitors' earlier visits matter, and only then."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.evaluation.off_policy.earlier_visits import Visits
from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.evaluation.off_policy.alike_shop import LIKES, POLICIES, TASTES
from tests.evaluation.off_policy.returning_visitors import ITEMS, TARGETS, ReturningVisitors
from tests.evaluation.off_policy.slate_shop import ITEMS as SLATE_ITEMS
from tests.evaluation.off_policy.slate_shop import random_slates
from tests.trajectories.sources.shop import first_liked, log, published, slates_table

SAYS = "what visitors do depends on what they saw on earlier visits"
KNOWN = 'visitor = "who"'


def refusals(shop: ReturningVisitors, folder, visitors: int, column: str = KNOWN) -> set[str]:
    dataset = shop.logs(folder, visitors, 3, column)
    found = estimate_policies(dataset, TARGETS, held_out_only=False).policies
    return {str(one.refusal) for one in found.values()}


@pytest.mark.parametrize("left", [0.5, 0.2])
def test_who_has_clicked_an_item_and_tires_of_it_is_no_verdict(left, tmp_path):
    shop = ReturningVisitors(20, left)
    (refusal,) = refusals(shop, tmp_path, 400)
    assert SAYS in refusal


def test_tastes_alone_are_no_reason(tmp_path):
    """Visitors who like an item click it again, whether it was shown before or not."""
    assert refusals(ReturningVisitors(20), tmp_path, 400) == {"None"}


def test_where_nobody_knows_visitors_nobody_asks(tmp_path):
    assert refusals(ReturningVisitors(20, 0.5), tmp_path, 400, "") == {"None"}


def test_who_comes_once_has_no_earlier_visit(tmp_path):
    assert refusals(ReturningVisitors(1, 0.5), tmp_path, 4_000) == {"None"}


def visits(rng: np.random.Generator, visitors: int, count: int, places: int) -> Visits:
    """Visits under a policy with different preferences for each visitor."""
    rows = visitors * count
    who = rng.permutation(np.repeat(np.arange(visitors), count))
    liked = rng.dirichlet(np.full(ITEMS, 0.7), visitors)[who]
    ranked = np.log(liked) + rng.gumbel(size=liked.shape)
    item = np.argsort(-ranked, axis=1)[:, :places].astype(np.int32)
    propensity = liked[np.arange(rows), item[:, 0]]
    return Visits(who, np.arange(rows), item, propensity)


def seen_by_hand(made: Visits) -> np.ndarray:
    """(R, K) number of earlier times that the item was shown to the same visitor."""
    counts: dict[tuple[int, int], int] = {}
    found = np.zeros(made.item.shape)
    for row, who in enumerate(made.visitor.tolist()):
        for place, item in enumerate(made.item[row].tolist()):
            found[row, place] = counts.get((who, item), 0)
        for item in made.item[row].tolist():
            counts[who, item] = counts.get((who, item), 0) + 1
    return found


@pytest.mark.parametrize("places", [1, 2])
def test_what_was_seen_before_is_told_from_chance(places):
    """For effects of either sign, and any order of rows."""
    rng = np.random.default_rng(1)
    made = visits(rng, 300, 12, places)
    seen = seen_by_hand(made)
    noise, likely = rng.normal(size=seen.shape), rng.random(seen.shape)
    for sign in (-1, 1):
        assert SAYS in str(made.refusal(noise + sign * 0.3 * (seen > 0), likely))
        assert SAYS in str(made.refusal(noise + sign * 0.3 * likely * seen, likely))
    mixed = rng.permutation(len(seen))
    columns = made.visitor, made.order, made.item, made.propensity
    moved = Visits(*(column[mixed] for column in columns))
    assert SAYS in str(moved.refusal((noise - 0.3 * (seen > 0))[mixed], likely[mixed]))


def test_chance_is_refused_seldom():
    """With moods, and surprises correlated with the policy's preferences for a visitor."""
    rng, refused = np.random.default_rng(2), 0
    for _ in range(300):
        made = visits(rng, 60, 10, 1)
        mood = rng.normal(size=60)[made.visitor] + made.propensity
        surprise, likely = mood + rng.normal(size=600), rng.random((600, 1))
        refused += made.refusal(surprise[:, None], likely) is not None
    assert refused <= 5  # 0.8 are expected


def changing(
    rng: np.random.Generator, visitors: int, count: int, left: float = 1.0, on_offer: int = ITEMS
) -> tuple[Visits, np.ndarray, np.ndarray, np.ndarray]:
    """Visits under a policy that prefers the visitor's last purchase and cheap items.

    Returns:
        The visits, (R, 1) surprises and expected rewards, and (R, N) items on offer: if not all,
        mostly those that visitors like. After a purchase the share `left` of a like remains.
    """
    who, all_rows = np.arange(visitors), []
    taste, last = rng.normal(0, 1.2, (visitors, ITEMS)), np.zeros(visitors, np.intp)
    bought = np.zeros((visitors, ITEMS), np.bool_)
    for _ in range(count):
        price = rng.normal(0, 0.7, (visitors, ITEMS))
        offered = np.argsort(-taste - rng.gumbel(size=taste.shape), axis=1)[:, :on_offer]
        able = np.full(taste.shape, -np.inf)
        np.put_along_axis(able, offered, 0.0, axis=1)
        odds = np.exp(2 * (np.eye(ITEMS)[last] - 0.7 * price) + able)
        chance = odds / odds.sum(axis=1, keepdims=True)
        item = np.argmax(np.log(odds + 1e-300) + rng.gumbel(size=odds.shape), axis=1)
        last = np.argmax(taste - price + rng.gumbel(size=odds.shape), axis=1)  # whatever is shown
        reward = (last == item) & (rng.random(visitors) < np.where(bought[who, item], left, 1.0))
        bought[who, item] |= reward
        all_rows.append((who, item, chance[who, item], reward, offered))
    columns = [np.concatenate(one) for one in zip(*all_rows, strict=True)]
    whose, item, propensity, reward, offered = columns
    expected = (np.bincount(item, reward) / np.bincount(item))[item][:, None]
    made = Visits(whose, np.arange(len(item)), item[:, None].astype(np.int32), propensity)
    return made, reward[:, None] - expected, expected, offered


def test_a_policy_that_follows_what_changes_is_no_reason():
    """Earlier choices of the policy reveal tastes, but nothing depends on them."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        made, surprise, expected, _ = changing(rng, 200, 10)
        assert made.refusal(surprise, expected) is None


def test_nor_are_items_that_are_on_offer_to_those_who_like_them():
    rng = np.random.default_rng(8)
    for _ in range(20):
        made, surprise, expected, offered = changing(rng, 200, 10, on_offer=3)
        assert made.refusal(surprise, expected, np.array_split(offered, 3)) is None


@pytest.mark.parametrize("left", [1.0, 0.2])
def test_logs_tell_what_was_on_offer(left, tmp_path):
    rng = np.random.default_rng(12)
    made, surprise, expected, offered = changing(rng, 1_500, 10, left, on_offer=3)
    ids = np.array([f"i{item}" for item in range(ITEMS)])
    table = {
        "who": made.visitor,
        "item": ids[made.item[:, 0]],
        "propensity": made.propensity,
        "reward": np.rint(surprise + expected)[:, 0],
        "offered": ids[offered].tolist(),
        "kind": np.array(["a", "b"])[made.visitor % 2],
    }
    log(tmp_path, "log.parquet", table)
    columns = f'[columns]\nuser = ["kind"]\ncandidates = "offered"\n{KNOWN}\n'
    target = {"random": TARGETS["random"]}
    found = estimate_policies(published(tmp_path, columns), target, held_out_only=False)
    assert (SAYS in str(found.policies["random"].refusal)) == (left < 1)


@pytest.mark.parametrize("on_offer", [3, ITEMS])
def test_who_tires_is_found_out_where_the_policy_follows_what_changes(on_offer):
    rng = np.random.default_rng(9)
    made, surprise, expected, offered = changing(rng, 4_000, 10, 0.3, on_offer)
    blocks = None if on_offer == ITEMS else np.array_split(offered, 3)
    assert SAYS in str(made.refusal(surprise, expected, blocks))


def test_propensities_that_are_next_to_nothing_are_no_reason():
    rng = np.random.default_rng(10)
    for _ in range(20):
        made, surprise, expected, _ = changing(rng, 200, 10)
        made.propensity[rng.integers(0, 2_000, 5)] = 1e-100
        assert made.refusal(surprise, expected) is None


def test_items_that_could_be_shown_before_are_counted():
    """Same as by hand: earlier visits on which items were on offer and chance decided."""
    rng = np.random.default_rng(11)
    made, _, _, offered = changing(rng, 30, 8, on_offer=4)
    made.propensity[rng.random(240) < 0.2] = 1.0
    offered = np.where((rng.random((240, 4)) < 0.2) & (offered != made.item), -1, offered)
    expected = [
        sum(
            made.visitor[before] == made.visitor[row]
            and made.propensity[before] < 1
            and made.item[row, 0] in offered[before]
            for before in range(row)
        )
        for row in range(240)
    ]
    blocks = np.array_split(offered, 7)
    found = made._could_be_shown(np.arange(240), made.visitor.astype(np.intp), blocks)
    np.testing.assert_array_equal(found, expected)


def test_what_nobody_can_tell_apart_is_no_reason():
    """All visitors see the same item on the second visit as on the first."""
    rng = np.random.default_rng(4)
    for _ in range(50):
        item = rng.integers(0, ITEMS, (200, 1)).astype(np.int32)
        who, twice = np.tile(np.arange(200), 2), np.tile(item, (2, 1))
        made = Visits(who, np.arange(400), twice, np.full(400, 1 / ITEMS))
        surprise = rng.normal(size=(400, 1)) + (np.arange(400) > 200)[:, None]
        assert made.refusal(surprise, np.full((400, 1), 0.3)) is None


@pytest.mark.parametrize("left", [1.0, 0.4])
def test_slates_of_visitors_who_have_seen_an_item(left, tmp_path):
    rng = np.random.default_rng(5)
    taste, seen = rng.integers(0, TASTES, 800), np.zeros((800, SLATE_ITEMS), np.bool_)
    tables = []
    for _ in range(10):
        shown, who = random_slates(800, rng), np.arange(800)[:, None]
        likes = LIKES[taste[:, None], shown] * np.where(seen[who, shown], left, 1.0)
        made = slates_table(shown, first_liked(rng.random(shown.shape) < likes), SLATE_ITEMS)
        tables.append(pd.DataFrame(made).assign(who=who, taste=np.array(list("abc"))[taste]))
        seen[who, shown] = True
    log(tmp_path, "log.parquet", pd.concat(tables).to_dict("list"))
    columns = f'[columns]\nuser = ["taste"]\nclicked = "clicked"\n{KNOWN}\n'
    target = {"the best": POLICIES["the best"]}
    found = estimate_policies(published(tmp_path, columns), target, held_out_only=False).policies[
        "the best"
    ]
    assert (SAYS in str(found.refusal)) == (left < 1)


def test_of_many_some_visitors_are_asked():
    """The test uses all visits of these visitors."""
    rng = np.random.default_rng(3)
    made = visits(rng, 30_000, 8, 1)
    seen = seen_by_hand(made)
    noise = rng.normal(size=seen.shape)
    assert made.refusal(noise, np.ones(seen.shape)) is None
    assert SAYS in str(made.refusal(noise - 0.1 * (seen > 0), np.ones(seen.shape)))


def test_of_few_who_come_very_often_the_first_visits_are_asked():
    rng = np.random.default_rng(6)
    made = visits(rng, 45, 6_000, 1)
    seen = seen_by_hand(made)
    early = np.log1p(np.minimum(seen, 100))
    noise, likely = rng.normal(size=seen.shape), np.ones(seen.shape)
    assert made.refusal(noise, likely) is None
    assert SAYS in str(made.refusal(noise - 0.1 * early, likely))
