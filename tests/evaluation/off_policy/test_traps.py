"""Logs that cannot decide: none has a verdict, and each has a message with the reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.evaluation.off_policy.column_balance import ColumnGroups
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.shop import (
    EVENLY,
    FAVOURITE,
    LIKED,
    ByFirstPlace,
    ByKind,
    OneItem,
    dataset,
    frame,
)
from tests.trajectories.sources.shop import log, published


def refusal(folder, logged, target=EVENLY):
    found = estimate_policies(dataset(folder, logged), {"it": target}, held_out_only=False)
    return found.policies["it"].refusal


@pytest.fixture
def logged():
    return frame(6000, seed=2)


def test_logs_that_can_tell(tmp_path, logged):
    assert refusal(tmp_path, logged) is None
    assert refusal(tmp_path / "favourite", logged, FAVOURITE) is None


def test_propensities_of_other_rows(tmp_path, logged):
    shuffled = np.random.default_rng(0).permutation(logged.propensity.to_numpy())
    found = refusal(tmp_path, logged.assign(propensity=shuffled))
    assert "mean weight" in found.reason
    assert "propensity" in found.advice


def test_propensities_twice_too_large(tmp_path, logged):
    found = refusal(tmp_path, logged.assign(propensity=2 * logged.propensity))
    assert found.reason.startswith("the mean weight of this policy is 0.497")
    assert "but 1 is expected" in found.reason


def test_propensities_that_are_all_1(tmp_path, logged):
    found = refusal(tmp_path, logged.assign(propensity=1.0))
    assert found.reason.startswith("the mean weight of this policy is 0.2")


def test_propensities_that_ignore_the_user(tmp_path, logged):
    """Propensities are the items' shares: weights have the right mean, item by item."""
    shares = logged.item.map(logged.item.value_counts(normalize=True))
    found = refusal(tmp_path, logged.assign(propensity=shares))
    assert "where kind=" in found.reason
    assert "propensities allow for all that decided" in found.advice


def test_propensities_of_other_rows_with_the_same_item(tmp_path, logged):
    rng = np.random.default_rng(0)
    shuffled = logged.groupby("item").propensity.transform(lambda one: rng.permutation(one))
    assert "where kind=" in refusal(tmp_path, logged.assign(propensity=shuffled)).reason


@pytest.mark.parametrize("known", ["clicked", "rate of what was shown", "random", "age"])
def test_columns_that_are_known_after_the_decision(tmp_path, logged, known):
    rng = np.random.default_rng(1)
    columns = {
        "clicked": logged.reward.astype(float),
        "rate of what was shown": LIKED[(logged.kind == "b").astype(int), logged.item],
        "random": rng.exponential(size=len(logged)) ** 3,
        "age": np.where(logged.kind == "a", 30.0, 50.0) + rng.normal(size=len(logged)),
    }
    folder = tmp_path / "logs"
    folder.mkdir()
    some = {name: logged[name].to_numpy() for name in logged} | {known: columns[known]}
    log(folder, "log.parquet", some)
    logs = published(folder, f'[columns]\nuser = ["kind", "{known}"]\n')
    targets = {"it": RandomPolicy(1)}
    found = estimate_policies(logs, targets, held_out_only=False).policies["it"].refusal
    if known in ("random", "age"):
        assert found is None
    else:
        assert f"where {known} is " in found.reason
        assert "known before the decision" in found.advice


def test_weights_of_groups_are_those_of_a_table(logged):
    """The cells by pandas, over the quarters of one column and the two kinds of another."""
    rng = np.random.default_rng(3)
    user = np.stack([rng.normal(size=len(logged)), logged.kind == "b"], axis=1)
    offered = np.broadcast_to(np.arange(5), (len(logged), 5))
    probability = np.full((len(logged), 5), 0.2)
    shown, factor = logged.item.to_numpy()[:, None], 1 / logged.propensity.to_numpy()
    groups = ColumnGroups.of(["x", "kind"], user, 5, len(logged), 5)
    half = len(logged) // 2
    balances = groups.empty
    for block in (slice(half), slice(half, None)):
        parts = (user[block], offered[block], shown[block], probability[block], factor[block])
        balances = groups.add(balances, *parts)
    quarter = pd.qcut(user[:, 0], 4, labels=False)
    for balance, group in zip(balances, (quarter, 3 * user[:, 1].astype(int)), strict=True):
        table = pd.DataFrame({"group": group, "item": logged.item, "weight": 0.2 * factor})
        weights = table.pivot_table(index="group", columns="item", values="weight", aggfunc="sum")
        sizes = table.groupby("group").size()
        for number in range(4):
            cells = balance.weights.reshape(4, 5)[number], balance.expected.reshape(4, 5)[number]
            if number in sizes:
                np.testing.assert_allclose(cells[0], weights.loc[number])
                np.testing.assert_allclose(cells[1], 0.2 * sizes[number])
            else:
                assert not np.any(cells)


def test_an_item_that_was_never_shown(tmp_path, logged):
    shown = np.array([[0.5, 0.0, 0.3, 0.2, 0.0], [0.3, 0.0, 0.4, 0.3, 0.0]])
    some = frame(6000, seed=3, shown=shown)
    some.loc[0, ["item", "propensity"]] = [1, 0.5]  # so that the catalogue has them
    some.loc[1, ["item", "propensity"]] = [4, 0.5]
    found = refusal(tmp_path, some)
    assert "hardly seen" in found.reason or "mean weight" in found.reason
    assert "log" in found.advice


def test_a_single_row_that_decides(tmp_path, logged):
    heavy = logged.assign(reward=0)
    heavy.loc[:40, "reward"] = 1
    heavy.loc[3, "propensity"] = 0.0002
    found = refusal(tmp_path, heavy)
    assert "effective rewards" in found.reason or "a single session carries" in found.reason


def test_hardly_any_reward(tmp_path, logged):
    rare = logged.assign(reward=0)
    rare.loc[[3, 50, 700, 5000], "reward"] = 1
    found = refusal(tmp_path, rare)
    assert "effective rewards, but at least 5 are needed" in found.reason


@pytest.mark.parametrize(("share", "sigma"), [(1.0, 2.0), (0.05, 1.4)])
def test_few_large_rewards(tmp_path, logged, share, sigma):
    """Log-normal rewards, which differ by factors of hundreds."""
    rng = np.random.default_rng(4)
    paid = rng.random(len(logged)) < share
    sizes = np.where(paid, np.exp(sigma * rng.normal(size=len(logged))), 0.0)
    logs = dataset(tmp_path / "sizes", logged.assign(reward=sizes))
    found = estimate_policies(logs, {"it": FAVOURITE}, held_out_only=False).policies["it"]
    refusal = found.overlap.skewed()
    assert refusal.reason.startswith("the estimate rests on few large rewards or weights")
    assert refusal.advice.startswith("log about ")
    alike = dataset(tmp_path / "alike", logged.assign(reward=paid * (3.0 + rng.random(len(paid)))))
    found = estimate_policies(alike, {"it": FAVOURITE}, held_out_only=False).policies["it"]
    assert found.overlap.skewed() is None


def test_a_handful_of_rows_is_too_few_and_says_nothing_of_propensities(tmp_path):
    few = frame(30, seed=5).assign(item=2, propensity=0.3, reward=1)
    few.loc[0, "item"] = 1  # not held out
    logs = dataset(tmp_path, few)
    found = estimate_policies(logs, {"it": OneItem(0)}, held_out_only=True).policies["it"]
    assert found.overlap.mean_weight == 0
    assert found.refusal.reason.startswith("the estimate rests on 0.0 effective rewards")


KINDS, CHOICES, EPSILON = 50, 30, 0.2


def tastes(rows, seed, favourites=CHOICES):
    """Decisions of a policy that shows each kind of users its favourite, or an item at random.

    Kind k likes item k modulo `favourites`.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, rows)
    best, at_random = kind % favourites, rng.random(rows) < EPSILON
    item = np.where(at_random, rng.integers(0, CHOICES, rows), best)
    return pd.DataFrame(
        {
            "kind": [f"{one:02d}" for one in kind],
            "item": item,
            "propensity": EPSILON / CHOICES + (1 - EPSILON) * (item == best),
            "reward": (rng.random(rows) < 0.2).astype(np.int64),
        }
    )


class Differs(ByFirstPlace):
    """Shows each kind the item that it likes best, but the first five kinds another."""

    def first_place(self, observation):
        """Probabilities (B, N)."""
        kind = observation["user"].argmax(axis=1)
        return np.eye(CHOICES)[np.where(kind < 5, kind + 10, kind % CHOICES)]


@pytest.mark.parametrize(("rows", "seed"), [(4000, 0), (4000, 1), (4000, 2), (20_000, 3)])
def test_items_that_are_rarely_drawn_are_no_wrong_propensities(tmp_path, rows, seed):
    """The policy shows 80 users another item, which the logs show to at most one of them."""
    found = refusal(tmp_path, tastes(rows, seed), Differs())
    assert found is None or "propensity" not in found.advice


def test_propensities_of_other_rows_where_few_rows_explore(tmp_path):
    logged = tastes(4000, seed=0, favourites=3)
    evenly = ByKind(np.full((KINDS, CHOICES), 1 / CHOICES))
    assert refusal(tmp_path / "right", logged, evenly) is None
    shuffled = np.random.default_rng(1).permutation(logged.propensity.to_numpy())
    found = refusal(tmp_path / "wrong", logged.assign(propensity=shuffled), evenly)
    assert "mean weight" in found.reason
    doubled = np.minimum(2 * logged.propensity, 1.0)
    found = refusal(tmp_path / "doubled", logged.assign(propensity=doubled), evenly)
    assert found.reason.startswith("the mean weight of this policy is")


def test_a_bucket_that_explores_judges_beside_one_that_does_not(tmp_path):
    """A tenth of the visits are random, the others always see item 1."""
    explored = frame(2000, seed=8).assign(bucket="explores")
    fixed = frame(18_000, seed=9, shown=np.eye(5)[[1, 1]]).assign(bucket="fixed")
    both = pd.concat([explored, fixed]).sample(frac=1.0, random_state=0)
    logs = dataset(tmp_path, both, policy="bucket")
    found = estimate_policies(logs, {"it": EVENLY, "best": FAVOURITE}, held_out_only=False)
    one = found.policies["it"]
    assert one.refusal is None
    alone = explored.reward / 5 / explored.propensity
    assert one.estimates["ips"].value == pytest.approx(alone.mean())
    for name, truth in (("it", LIKED.mean()), ("best", 0.30)):
        low, high = found.policies[name].contributions.interval(0.999)
        assert low < truth < high
    assert found.logged.value == pytest.approx(both.reward.mean())


def test_a_row_without_a_choice_makes_no_explorer(tmp_path):
    """In a bucket that always shows item 1, one row offers only that item."""
    columns = ["kind", "item", "propensity", "reward", "bucket", "offered"]
    explored = frame(1000, seed=8).assign(bucket="explores")
    fixed = frame(3000, seed=9, shown=np.eye(5)[[1, 1]]).assign(bucket="fixed")
    values = []
    for offers in (range(5), [1]):
        both = pd.concat([explored, fixed], ignore_index=True)
        both["offered"] = [list(range(5))] * 3999 + [list(offers)]
        folder = tmp_path / str(len(offers))
        folder.mkdir()
        log(folder, "log.parquet", both[columns].to_dict("list"))
        recipe = '[columns]\nuser = ["kind"]\ncandidates = "offered"\npolicy = "bucket"\n'
        targets = {"it": RandomPolicy(1)}
        found = estimate_policies(published(folder, recipe), targets, held_out_only=False)
        assert found.policies["it"].refusal is None
        values.append(found.policies["it"].estimates["ips"].value)
    assert (
        values[0] == values[1] == pytest.approx((explored.reward / 5 / explored.propensity).mean())
    )
