"""Estimates from single decisions, against loops by hand and a shop with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.single_steps import SingleSteps
from slateflow.evaluation.off_policy.weighted_rows import WeightedRows
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.shop import EVENLY, FAVOURITE, LIKED, SHOWN, ByKind, dataset, frame


@pytest.fixture(scope="module")
def logged():
    return frame(20_000, seed=1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, logged):
    return dataset(tmp_path_factory.mktemp("shop"), logged)


def test_importance_weighting_row_by_row(shop, logged):
    found = estimate_policies(shop, {"favourite": FAVOURITE}, held_out_only=False)
    one = found.policies["favourite"]
    weights, total = [], 0.0
    for row in logged.itertuples():
        favourite = {"a": 0, "b": 3}[row.kind]
        weight = (row.item == favourite) / row.propensity
        weights.append(weight)
        total += weight * row.reward
    assert one.estimates["ips"].value == pytest.approx(total / len(logged))
    assert one.estimates["snips"].value == pytest.approx(total / sum(weights))
    assert one.overlap.mean_weight == pytest.approx(np.mean(weights))
    assert one.overlap.ess == pytest.approx(np.sum(weights) ** 2 / np.sum(np.square(weights)))
    assert found.logged.value == pytest.approx(logged.reward.mean())
    assert found.sessions == found.rows == 20_000


def test_every_estimator_finds_what_the_policy_would_earn(shop):
    targets = {"favourite": FAVOURITE, "evenly": EVENLY, "random": RandomPolicy(1)}
    found = estimate_policies(shop, targets, held_out_only=False).policies
    for name, truth in (("favourite", 0.30), ("evenly", float(LIKED.mean()))):
        for estimator, contributions in found[name].estimates.items():
            low, high = contributions.interval(0.999)
            slack = 0.01 if estimator in ("dm", "dr-os") else 0.0  # these two have a bias
            assert low - slack < truth < high + slack, (name, estimator)
        assert found[name].refusal is None
    for estimator, contributions in found["random"].estimates.items():
        assert contributions.value == found["evenly"].estimates[estimator].value


def test_a_model_that_predicts_makes_the_estimate_surer(shop):
    found = estimate_policies(shop, {"favourite": FAVOURITE}, held_out_only=False)
    estimates = found.policies["favourite"].estimates
    assert estimates["dr"].sem < 0.95 * estimates["ips"].sem


def test_a_wrong_model_does_no_harm_and_wrong_weights_neither():
    rng = np.random.default_rng(0)
    weight = rng.gamma(2.0, 0.5, 400_000)
    shown = rng.random(len(weight))
    reward = (rng.random(len(weight)) < shown).astype(float)
    truth = float(np.mean(weight * shown))
    constant = np.full(len(weight), 0.9)
    wrong_model = WeightedRows(weight, reward, constant, constant)
    assert wrong_model.dr().value == pytest.approx(truth, abs=4 * wrong_model.dr().sem)
    # Where the model is right, the weights can be anything
    right_model = WeightedRows(weight**2, reward, shown, weight * shown)
    assert right_model.dr().value == pytest.approx(truth, abs=4 * right_model.dr().sem)


@pytest.mark.parametrize("heavy", [0.0, 1.5])
def test_the_skewness_is_that_of_estimates_drawn_anew(heavy):
    """4,000 logs of 500 rows, in which weights and errors are independent."""
    rng = np.random.default_rng(7)

    def drawn():
        weight, reward = rng.gamma(2.0, 0.5, 500), np.exp(rng.normal(0, 0.7, 500))
        weight[rng.random(500) < 0.02] *= 1 + 4 * heavy
        constant = np.full(500, np.exp(0.7**2 / 2))
        return WeightedRows(weight, reward, constant, constant)

    logs = [drawn() for _ in range(4000)]
    estimates = stats.skew([one.dr().value for one in logs])
    assert np.mean([one.skewness for one in logs]) == pytest.approx(estimates, rel=0.25)


def test_rewards_of_one_size_are_not_skewed_and_those_of_two_are():
    weight, shown = np.ones(1000), np.zeros(1000)
    clicks = np.where(np.arange(1000) < 40, 1.0, 0.0)
    assert WeightedRows(weight, clicks, shown, shown).skewness == pytest.approx(0.0, abs=1e-12)
    sizes = np.where(np.arange(1000) < 4, 3.0, clicks)
    # Skewness of a sum of events is Σ r³ / (Σ r²)^1.5, and of equal events (Σ r²)^0.5 / Σ r
    three, two, one = 4 * 27 + 36, 4 * 9 + 36, 4 * 3 + 36
    one_more = np.sqrt(1000 / 1001)  # row
    expected = (three / two**1.5 - two**0.5 / one) * one_more
    assert WeightedRows(weight, sizes, shown, shown).skewness == pytest.approx(expected)


def test_choices_that_happen_to_be_missing_make_an_estimate_less_sure():
    """Three logs in four lack the target's item for half of the users, who like it."""
    rng, rows, seldom = np.random.default_rng(3), 500, 0.0005
    held = []
    for _ in range(400):
        half = np.arange(rows) % 2
        propensity = np.where(half, seldom, 0.9)
        matched = rng.random(rows) < propensity
        reward = rng.normal(np.where(matched, half, 0.0), 1.0)
        nothing = np.zeros(rows)  # the model knows nothing
        weight, factor = matched / propensity, 1 / np.where(matched, propensity, 1 - propensity)
        beside = np.append(factor, 1 / seldom)  # of another item, shown as seldom
        if weight.mean() > 0.9:
            continue
        found = [
            WeightedRows(weight, reward, nothing, nothing, one).dr()
            for one in (0.0, np.square(beside).sum() / beside.sum())
        ]
        held.append([low < 0.5 < high for low, high in (one.interval() for one in found)])
        assert (found[1] - found[1]).sem == 0.0
    usual, ours = np.mean(held, axis=0)
    assert len(held) > 300
    assert usual < 0.01
    assert ours > 0.95


def test_the_model_of_a_row_has_not_seen_it(shop, logged):
    """A changed reward of a row changes predictions for other folds only."""
    steps = SingleSteps(shop, held_out_only=False)
    fold = 7 % len(steps.weights)
    changed = logged.copy()
    changed.loc[7, "reward"] = 1 - changed.loc[7, "reward"]
    assert steps.weights.shape == (5, 3, 6)
    assert fold == 2
    known, shown = {"a": 0, "b": 1}, np.zeros((2, 5))
    rest = logged[np.arange(len(logged)) % 5 != fold]
    for kind, of_kind in rest.groupby("kind"):
        for item, of_item in of_kind.groupby("item"):
            shown[known[kind], item] = of_item.reward.mean()
    weights = steps.weights[fold]
    predicted = np.stack([weights[0] + one @ weights[1:] for one in np.eye(2)])
    assert predicted[:, :1] + predicted[:, 1:] == pytest.approx(shown, abs=0.01)


def test_held_out_rows_alone_are_evidence(shop, logged):
    found = estimate_policies(shop, {"evenly": EVENLY}, held_out_only=True)
    mask = shop.hold_out.mask(shop.read())
    assert found.sessions == np.count_nonzero(mask)
    rows = logged[mask]
    by_hand = (rows.reward / 5 / rows.propensity).mean()
    assert found.policies["evenly"].estimates["ips"].value == pytest.approx(by_hand)


@pytest.mark.parametrize(("rows", "held_out_only"), [(1, False), (1, True), (4, True), (12, True)])
def test_fewer_than_two_rows_are_no_evidence(tmp_path, rows, held_out_only):
    few = dataset(tmp_path, frame(rows, seed=0))
    assert np.count_nonzero(few.hold_out.mask(few.read())) < 2
    with pytest.raises(InputError, match=rf"at least 2 .*sessions as evidence, got .* of {rows}"):
        estimate_policies(few, {"evenly": EVENLY}, held_out_only=held_out_only)


@pytest.mark.integration
def test_coverage_of_the_trusted_estimate_and_its_uplift(tmp_path):
    """New logs each time: intervals of value and uplift have their nominal coverage."""
    target = ByKind(0.5 * FAVOURITE.shown + 0.5 * SHOWN)
    value = float((target.shown * LIKED).sum() / 2)
    truth = value - float(LIKED.mean())
    held, repeats = np.zeros(2), 60
    for seed in range(repeats):
        logs = dataset(tmp_path / str(seed), frame(1500, 100 + seed))
        found = estimate_policies(
            logs, {"new": target, "random": EVENLY}, held_out_only=False
        ).policies
        contributions = found["new"].contributions
        uplift = contributions - found["random"].contributions
        for place, (one, true) in enumerate(((contributions, value), (uplift, truth))):
            low, high = one.interval()
            held[place] += low <= true <= high
    assert (held >= 0.95 * repeats - 3 * np.sqrt(repeats * 0.05 * 0.95)).all(), held
