"""Copied rows and repeated choices, against plain loops and logs with known draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.overlap import ItemBalance
from slateflow.evaluation.off_policy.repeated_choices import RepeatedChoices
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.returning_visitors import TARGETS, ReturningVisitors
from tests.evaluation.off_policy.shop import (
    COLUMNS,
    EVENLY,
    FAVOURITE,
    ITEMS,
    LIKED,
    SHOWN,
    dataset,
    frame,
)
from tests.trajectories.sources.shop import log, published, slates_table


def estimated(logs, targets):
    return estimate_policies(logs, targets, held_out_only=False).policies


def kept_for_an_hour(seed: int, hours: int = 200, visits: int = 40) -> pd.DataFrame:
    """Decisions of a policy that draws an item per kind of users, and keeps it for an hour."""
    rng = np.random.default_rng(seed)
    drawn = (rng.random((hours, 2, 1)) > np.cumsum(SHOWN, axis=1)).sum(axis=2)
    hour, kind = np.repeat(np.arange(hours), visits), rng.integers(0, 2, hours * visits)
    item, mood = drawn[hour, kind], np.exp(rng.normal(-0.125, 0.5, hours))[hour]
    return pd.DataFrame(
        {
            "hour": hour,
            "kind": np.array(["a", "b"])[kind],
            "item": item,
            "propensity": SHOWN[kind, item],
            "reward": (rng.random(len(hour)) < LIKED[kind, item] * mood).astype(np.int64),
        }
    )


def test_repetitions_are_counted_as_in_a_plain_loop(tmp_path):
    """Independent rows are not refused, and repetitions are as many as chance implies."""
    logged = frame(3000, seed=0)
    before, more = {}, []
    for row in logged.itertuples():
        if row.kind in before:
            item, propensity = before[row.kind]
            more.append((item == row.item) - (propensity + row.propensity) / 2)
        before[row.kind] = row.item, row.propensity
    found = RepeatedChoices.of(dataset(tmp_path, logged).read())
    assert found.refusal() is None
    total, error = found.excess()
    assert total == pytest.approx(sum(more))
    assert error == pytest.approx(np.sqrt(np.square(more).sum()))
    assert abs(total) < 3 * error


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_rows_that_stand_there_twice(tmp_path, share):
    logged = frame(6000, seed=1)
    copies = np.random.default_rng(0).random(len(logged)) < share
    twice = pd.concat([logged, logged[copies]]).sort_index()
    found = estimated(dataset(tmp_path, twice), {"it": EVENLY})["it"].refusal
    assert "repeat the row before, but 23% are expected by the propensities" in found.reason
    assert found.advice.startswith("log each decision once")


@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("places", [1, 2])
def test_copies_of_held_out_rows_that_are_not_held_out(tmp_path, places, twice):
    """No two users are alike, each row is held out by itself, and most show the same slate."""
    rng, rows = np.random.default_rng(4), 6000
    shown = rng.permuted(np.tile(np.arange(5), (rows, 1)), axis=1)[:, :places]
    shown[rng.random(rows) < 0.8] = np.arange(places)
    table = slates_table(shown, rng.integers(-1, places, rows), items=5)
    table["propensity"] *= 0.2
    table["propensity"][(shown == np.arange(places)).all(axis=1)] += 0.8
    table = {name: list(column) for name, column in table.items()} | {"age": rng.random(rows)}
    table["item"] = shown.tolist() if places > 1 else shown[:, 0].tolist()
    log(tmp_path, "log.parquet", {name: list(one) * (1 + twice) for name, one in table.items()})
    logs = published(tmp_path, '[columns]\nuser = ["age"]\nclicked = "clicked"\n')
    targets = {"random": RandomPolicy(places)}
    found = estimate_policies(logs, targets, held_out_only=True).policies["random"].refusal
    assert ("repeat the row before" in str(found)) == twice


def test_copies_that_list_their_candidates_in_another_order(tmp_path):
    logged, rng = frame(3000, seed=2), np.random.default_rng(0)
    rows = np.repeat(np.arange(len(logged)), 2)
    table = {name: logged[name].to_numpy()[rows] for name in logged}
    table["candidates"] = [rng.permutation(ITEMS) for _ in rows]
    log(tmp_path, "log.parquet", table)
    logs = published(tmp_path, COLUMNS + 'candidates = "candidates"\n')
    found = estimated(logs, {"random": RandomPolicy(1)})["random"].refusal
    assert "repeat the row before" in found.reason


def test_a_choice_that_is_kept_for_an_hour(tmp_path):
    """Single rows are not evidence; hours are."""
    logged = kept_for_an_hour(seed=3)
    assert estimated(dataset(tmp_path / "rows", logged), {"it": EVENLY})["it"].refusal is not None
    assert RepeatedChoices.of(dataset(tmp_path / "rows", logged).read()).refusal() is not None
    log(tmp_path, "log.parquet", {name: logged[name].to_numpy() for name in logged})
    hours = published(tmp_path, COLUMNS + 'visitor = "hour"\n')
    for name, found in estimated(hours, {"it": EVENLY, "best": FAVOURITE}).items():
        assert found.refusal is None
        low, high = found.contributions.interval(0.999)
        assert low < {"it": LIKED.mean(), "best": 0.30}[name] < high


@pytest.mark.parametrize("seed", range(3))
def test_an_experiment_draws_once_for_each_visitor(tmp_path, seed):
    """Weights are impossible by rows, and as expected by visitors."""
    shop = ReturningVisitors(visits=20, keeps=True)
    known = shop.logs(tmp_path / "known", 800, seed, 'visitor = "who"')
    for found in estimated(known, TARGETS).values():
        assert found.refusal is None
    if seed == 0:
        unknown = shop.logs(tmp_path / "unknown", 800, seed)
        reason = estimated(unknown, TARGETS)["the best"].refusal
        assert "name `visitor` if one draw decides for all visits of one" in reason.advice


@pytest.mark.parametrize(("keeps", "expected"), [(True, 20.0), (False, 1.0)])
def test_how_many_rows_one_draw_decides(keeps, expected):
    rng, visitors, visits, items = np.random.default_rng(4), 2000, 20, 5
    visitor = np.repeat(np.arange(visitors), visits)
    item = rng.integers(0, items, visitors)[visitor] if keeps else rng.integers(0, 5, len(visitor))
    probability = np.tile([0.4, 0.3, 0.2, 0.1, 0.0], (len(item), 1))
    offered = np.tile(np.arange(items), (len(item), 1))
    empty = ItemBalance.none(items, visitors)
    factor = np.full(len(item), 5.0)
    balance = ItemBalance.of(offered, item[:, None], probability, factor, empty, visitor)
    assert balance.kept == pytest.approx(expected, rel=0.15)


def test_propensities_of_other_rows_are_found_where_visitors_are_known(tmp_path):
    rng = np.random.default_rng(5)
    logged = frame(8000, seed=6).assign(who=rng.integers(0, 1600, 8000))
    for name, propensity in (
        ("right", logged.propensity),
        ("shuffled", rng.permutation(logged.propensity.to_numpy())),
        ("doubled", 2 * logged.propensity),
    ):
        table = logged.assign(propensity=propensity)
        log(tmp_path / name, "log.parquet", {one: table[one].to_numpy() for one in table})
        logs = published(tmp_path / name, COLUMNS + 'visitor = "who"\n')
        found = estimated(logs, {"it": EVENLY})["it"].refusal
        assert (found is None) == (name == "right")
        assert found is None or "mean weight" in found.reason
