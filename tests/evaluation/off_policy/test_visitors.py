"""Sessions of visitors who come back, against plain loops and repeated logs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.contributions import Contributions, WeightedErrors
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.visitors import LEAST_VISITORS, Visitors
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.alike_shop import POLICIES, AlikeShop
from tests.trajectories.sources.shop import log, published


def error_by_hand(values: np.ndarray, visitor: np.ndarray) -> float:
    """Standard error of a mean, by sums over visitors, with the factor V / (V − 1)."""
    mean, names = values.mean(), sorted(set(visitor.tolist()))
    squares = sum(float(sum(values[visitor == one] - mean)) ** 2 for one in names)
    return (squares * len(names) / (len(names) - 1)) ** 0.5 / len(values)


def rewarded_rarely(seed: int, sessions: int = 400) -> Contributions:
    rng = np.random.default_rng(seed)
    reward = (rng.random(sessions) < 0.05).astype(float)
    weight, model = rng.gamma(2.0, 0.5, sessions), rng.normal(0.05, 0.01, sessions)
    errors = WeightedErrors(weight, reward - model, reward)
    return Contributions.of(model - weight * model, weight * reward, reward, errors)


@pytest.mark.parametrize("rare", [False, True])
def test_the_error_is_that_of_sums_over_visitors(rare):
    rng = np.random.default_rng(0)
    visitor = rng.integers(0, 50, 400)
    one = rewarded_rarely(1) if rare else Contributions(rng.normal(size=400) + visitor / 50)
    found = one.of_visitors(visitor)
    assert (found.rewarded is not None) == rare
    assert found.value == pytest.approx(one.value)
    assert found.sem == pytest.approx(error_by_hand(one.sums, visitor))
    assert found.sessions == one.sessions == 400
    assert len(found.dense) == 50


@pytest.mark.parametrize("rare", [False, True])
def test_who_comes_once_is_a_session(rare):
    rng = np.random.default_rng(2)
    one = rewarded_rarely(3) if rare else Contributions(rng.normal(size=400))
    found = one.of_visitors(rng.permutation(400))
    assert found.sem == pytest.approx(one.sem)
    assert found.interval() == pytest.approx(one.interval())
    assert found.skewness == pytest.approx(one.skewness)


@pytest.mark.parametrize("rare", [False, True])
def test_a_log_that_is_there_twice_says_no_more(rare):
    rng = np.random.default_rng(4)
    one = rewarded_rarely(5) if rare else Contributions(rng.gamma(0.5, size=400))
    errors, again = one.errors, np.tile(np.arange(400), 2)
    if errors is not None:
        parts = (errors.weight, errors.error, errors.reward)
        errors = WeightedErrors(*(np.tile(part, 2) for part in parts))
    paid = None if one.rewarded is None else np.tile(one.rewarded, 2)
    twice = Contributions(np.tile(one.dense, 2), paid, errors)
    assert twice.of_visitors(again).interval() == pytest.approx(one.interval(), rel=0.02)
    shorter = np.ptp(twice.interval()) / np.ptp(one.interval())
    assert shorter == pytest.approx(0.5**0.5, rel=0.1)  # where visitors are unknown


def test_the_skewness_of_a_log_that_is_there_twice_is_the_same():
    rng = np.random.default_rng(6)
    weight, reward = rng.gamma(2.0, 0.5, 300), rng.lognormal(0, 1, 300)
    one = Contributions(weight * reward, errors=WeightedErrors(weight, reward, reward))
    two = [np.tile(part, 2) for part in (weight, reward)]
    errors = WeightedErrors(two[0], two[1], two[1])
    twice = Contributions(two[0] * two[1], errors=errors).of_visitors(np.tile(np.arange(300), 2))
    assert one.skewness > 0.1
    assert twice.skewness == pytest.approx(one.skewness, rel=0.01)


@pytest.mark.parametrize("rare", [False, True])
def test_differences_are_those_of_the_sessions(rare):
    rng = np.random.default_rng(7)
    visitor = rng.integers(0, 60, 400)
    ones = [
        rewarded_rarely(seed) if rare else Contributions(rng.normal(size=400)) for seed in (8, 9)
    ]
    found = ones[0].of_visitors(visitor) - ones[1].of_visitors(visitor)
    expected = (ones[0] - ones[1]).of_visitors(visitor)
    assert found.interval() == pytest.approx(expected.interval())
    assert found.compare().p_value == pytest.approx(expected.compare().p_value, abs=1e-6)
    assert found.sessions == 400


def test_the_interval_of_a_mood_holds():
    """Intervals cover as often as they should if some visitors are happier than others."""
    rng, held, alone = np.random.default_rng(10), 0, 0
    visitor = np.repeat(np.arange(100), 10)
    for _ in range(400):
        one = Contributions(rng.normal(size=1000) + rng.normal(size=100)[visitor])
        (low, high), (least, most) = one.of_visitors(visitor).interval(), one.interval()
        held, alone = held + (low <= 0 <= high), alone + (least <= 0 <= most)
    assert 0.92 < held / 400 < 0.98
    assert alone / 400 < 0.75


def single_decisions(folder, visitors: int, column: str):
    """1,200 decisions among three items, whose rewards mostly depend on a visitor's mood."""
    rng = np.random.default_rng(11)
    who, item = rng.integers(0, visitors, 1200), rng.integers(0, 3, 1200)
    mood = rng.random(visitors)[who]
    table = {
        "item": item,
        "propensity": np.full(1200, 1 / 3),
        "reward": (rng.random(1200) < mood).astype(np.int64),
        "who": who,
    }
    log(folder, "log.parquet", table)
    return published(folder, f"[columns]\n{column}\n"), who, table["reward"]


def test_estimates_of_single_decisions_are_by_visitors(tmp_path):
    dataset, who, reward = single_decisions(tmp_path, 90, 'visitor = "who"')
    found = estimate_policies(dataset, {"random": RandomPolicy(1)}, held_out_only=False)
    assert (found.sessions, found.visitors, found.rows) == (1200, 90, 1200)
    assert found.logged.sem == pytest.approx(error_by_hand(reward.astype(float), who), rel=1e-6)
    random = found.policies["random"]
    assert list(random.estimates) == ["ips", "snips", "dm", "dr", "dr-os"]
    assert random.estimates["ips"].sem == pytest.approx(found.logged.sem, rel=0.02)
    assert random.refusal is None


def test_too_few_visitors_are_no_verdict(tmp_path):
    dataset, *_ = single_decisions(tmp_path, LEAST_VISITORS - 1, 'visitor = "who"')
    random = {"random": RandomPolicy(1)}
    found = estimate_policies(dataset, random, held_out_only=False).policies["random"]
    assert f"from {LEAST_VISITORS - 1} visitors, but at least {LEAST_VISITORS} are needed" in str(
        found.refusal
    )
    assert Visitors.of(None).refusal() is None


def test_a_single_visitor_is_no_evidence(tmp_path):
    dataset, *_ = single_decisions(tmp_path, 1, 'visitor = "who"')
    with pytest.raises(InputError, match="expected at least 2 visitors as evidence, got 1"):
        estimate_policies(dataset, {"random": RandomPolicy(1)}, held_out_only=False)


def test_slates_are_by_visitors(tmp_path):
    """Each slate is logged twice, for the same visitor."""
    AlikeShop("none").slates(tmp_path, 6_000, 1)
    table = pd.read_parquet(tmp_path / "logs/log.parquet").assign(who=np.arange(6_000))
    found = []
    for known in (True, False):
        folder = tmp_path / str(known)
        log(folder, "log.parquet", {name: [*table[name]] * 2 for name in table})
        visitor = 'visitor = "who"\n' if known else ""
        columns = f'[columns]\nuser = ["taste"]\nclicked = "clicked"\n{visitor}'
        items = f'[items]\nfile = "{tmp_path}/items.parquet"\nid = "id"\nfeatures = ["id"]\n'
        targets = {"the best": POLICIES["the best"]}
        found.append(
            estimate_policies(published(folder, columns + items), targets, held_out_only=False)
        )
    known, unknown = found
    assert (known.sessions, known.visitors, unknown.visitors) == (12_000, 6_000, None)
    one, other = (each.policies["the best"].contributions for each in found)
    assert one.value == pytest.approx(other.value, abs=other.sem / 2)  # folds differ
    assert one.sem == pytest.approx(other.sem * 2**0.5, rel=0.05)


def test_the_interval_holds_where_few_visitors_come_far_oftener_than_others():
    """Numbers of visits are Pareto: the standard error of 500 visitors rests on at most ten."""
    rng = np.random.default_rng(9)
    logs, visitors, held, usual = 400, 500, 0, 0
    for _ in range(logs):
        visits = np.ceil(rng.pareto(1.0, visitors)).clip(1, 1_000).astype(np.intp)
        visitor = np.repeat(np.arange(visitors), visits)
        mood = rng.normal(0, 0.15, visitors)[visitor]
        found = Contributions(mood + rng.normal(0, 0.4, len(mood))).of_visitors(visitor)
        low, high = found.interval()
        held += low <= 0 <= high
        usual += abs(found.value) <= 1.965 * found.sem
    assert held / logs > 0.93
    assert usual / logs < 0.91


def test_of_visitors_who_come_as_often_nobody_counts_less():
    """The interval is Student's, with one degree of freedom fewer than visitors."""
    rng = np.random.default_rng(10)
    values = rng.normal(size=1_000) + np.repeat(rng.normal(size=50), 20)
    found = Contributions(values).of_visitors(np.repeat(np.arange(50), 20))
    half = 2.0096 * error_by_hand(values, np.repeat(np.arange(50), 20))
    assert found.interval() == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-3)
