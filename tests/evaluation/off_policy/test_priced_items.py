"""Slates of items that have columns: tastes that follow these, and tastes that do not."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies, prepared_sessions
from slateflow.evaluation.off_policy.slate_sessions import SlateSessions
from slateflow.evaluation.off_policy.unexplained_clicks import clicks_are_unexplained
from slateflow.policies import RandomPolicy
from tests.evaluation.off_policy.priced_shop import ITEMS, LOOKS, PricedShop

ROWS = 15_000


@pytest.mark.parametrize(
    "kind", ["in a line", "what they can spend", "items of their own", "a step"]
)
def test_slates_are_judged_by_what_items_have_to_them(tmp_path, kind):
    """From price and budget alone the most expensive items were estimated twice too high."""
    shop = PricedShop(kind)
    targets = {"random": RandomPolicy(len(LOOKS)), **shop.policies()}
    truth = {name: shop.value(policy) for name, policy in shop.policies().items()}
    truth["random"] = shop.value_of_random()
    dataset = shop.slates(tmp_path, ROWS, 1)
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    for name, one in found.items():
        assert one.refusal is None, name
        assert one.contributions.value == pytest.approx(truth[name], abs=3 * one.contributions.sem)
        assert one.contributions.sem < 0.06


def test_tastes_that_no_model_follows_are_no_verdict(tmp_path):
    dataset = PricedShop("boxes").slates(tmp_path, ROWS, 2)
    targets = {"random": RandomPolicy(len(LOOKS)), **PricedShop("boxes").policies()}
    for one in estimate_policies(dataset, targets, held_out_only=False).policies.values():
        assert "do not explain what users choose" in str(one.refusal)


@pytest.mark.parametrize("kind", ["in a line", "items of their own"])
def test_items_have_columns_of_their_own_where_prices_do_not_tell(tmp_path, kind):
    evidence = prepared_sessions(*_logs(tmp_path, kind, 3))
    assert isinstance(evidence, SlateSessions)
    catalogue = evidence.sessions.rows.catalogue
    assert catalogue is not None
    own = catalogue.features[:, -ITEMS:]
    assert (own.shape == (ITEMS, ITEMS) and (own == np.eye(ITEMS)).all()) == (kind != "in a line")


def _logs(folder, kind: str, seed: int):
    dataset = PricedShop(kind).slates(folder, ROWS, seed)
    return dataset.read(), dataset.spec


@pytest.mark.parametrize("seed", range(5))
def test_clicks_that_are_expected_are_explained(tmp_path, seed):
    """True probabilities explain clicks; probabilities that ignore the items do not."""
    rows, _ = _logs(tmp_path, "in a line", 10 + seed)
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0.05, 0.3, rows.slate.shape)
    stops = np.column_stack([expected, 1 - expected.sum(axis=1)]).cumsum(axis=1)
    clicked = (rng.random(len(rows))[:, None] > stops).sum(axis=1)
    rows.clicked[:] = np.where(clicked < len(LOOKS), clicked, -1)
    assert not clicks_are_unexplained(rows, expected)
    dear = rows.shown_features()[:, :, 0] > 50
    rows.clicked[:] = np.where(dear.any(axis=1), dear.argmax(axis=1), -1)
    assert clicks_are_unexplained(rows, expected)
