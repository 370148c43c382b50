"""The loop of a shop: serving by the champion, logging, learning; and logs without a verdict."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client

from flows.cli.main import main
from slateflow.trajectories.sources.example import Shop
from tests.flows.nights import EPSILON, nights
from tests.flows.nights import recipes as recipes
from tests.flows.satisfaction_customers import SatisfactionCustomers
from tests.flows.shop_customers import RECIPE, ShopCustomers


def test_three_nights_lead_to_a_champion_by_logs_alone(recipes, capsys):
    shop = ShopCustomers(6000)
    found = list(nights(recipes, shop, 3, lambda: capsys.readouterr().out, "linucb"))
    assert [one.document["evidence"] for one in found] == ["logs"] * 3
    assert [one.document["dataset"]["rows"] for one in found] == [6000, 12_000, 18_000]
    assert all(one.document["optimum"] is None for one in found)  # nothing was played
    shares = np.array([0.0, *(one.share for one in found)])
    assert (np.diff(shares) > -0.05).all(), shares
    assert shares[-1] > 0.75, shares
    assert "promoted" in [one.state for one in found]
    served = pd.read_parquet(recipes / "logs" / "02.parquet")
    random = EPSILON / len(Shop.opened().tastes[0, 0])
    best = served.pscore > 0.5
    np.testing.assert_allclose(served.pscore, np.where(best, 1 - EPSILON + random, random))
    assert abs(best.mean() - (1 - EPSILON + random)) < 0.02


@pytest.mark.slow
def test_sessions_of_a_world_lead_to_a_champion_by_logs_alone(recipes, capsys):
    """Immediate rewards spoil the mood, which only sessions show: linucb chooses wrongly."""
    customers = SatisfactionCustomers(650, {"time_budget": 30})
    both = "linucb,fitted-q"
    found = list(nights(recipes, customers, 2, lambda: capsys.readouterr().out, both))
    assert [one.document["evidence"] for one in found] == ["logs"] * 2
    assert all(one.document["optimum"] is None for one in found)  # nothing was played
    assert [one.document["dataset"]["rows"] for one in found] == [650 * 30, 650 * 60]
    best, other = found[0].document["candidates"]
    assert (found[0].state, best["learner"], other["learner"]) == ("promoted", "fitted-q", "linucb")
    assert found[0].share > 0.9
    assert found[1].share > found[0].share - 0.02
    assert found[0].served == pytest.approx((1 - EPSILON) * found[0].share, abs=0.05)
    served = pd.read_parquet(recipes / "logs" / "01.parquet")
    best_shown = served.propensity > 0.5
    np.testing.assert_allclose(served.propensity, np.where(best_shown, 0.91, 0.01))
    assert abs(best_shown.mean() - 0.91) < 0.02
    assert served.groupby("session").time.diff().dropna().eq(1).all()


def test_wrong_propensities_end_in_no_verdict_wherever_verdicts_stand(recipes, capsys):
    (recipes / "shop.toml").write_text(RECIPE)
    logged = Shop.opened().log(4000, 0)
    doubled = logged.assign(time=np.arange(4000), pscore=np.minimum(2 * logged.pscore, 1))
    doubled.to_parquet(recipes / "logs" / "monday.parquet")
    assert main(["run", "shop", "--learners", "linucb", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["registered"] is None
    assert document["no_verdict"]["reason"].startswith("random: the mean weight of this policy is")
    (candidate,) = document["candidates"]
    assert candidate["verdict"] == "no verdict"
    assert main(["run", "shop", "--learners", "linucb"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "no verdict, nothing registered" in shown
    assert "no verdict: random: the mean weight of this policy is" in shown
    with get_client(sync_client=True) as client:
        digest = document["dataset"]["digest"]
        report = next(one for one in client.read_artifacts() if digest in str(one.data))
        page, run = str(report.data), client.read_flow_run(report.flow_run_id)
        names = {one.name for one in client.read_flow_runs()}
    assert page.startswith("# shop: no verdict, nothing registered")
    assert (run.name, run.state.name) == ("pipeline shop: no verdict", "Completed")
    assert "no-verdict" in run.tags
    assert "evaluate shop: no verdict" in names
    assert "**No verdict**: random: the mean weight of this policy is" in page
    assert "| linucb |" in page
    overlap = candidate["overlap"]
    assert f"| {overlap['ess']:,.0f} | {overlap['effective_rewards']:,.1f} |" in page
    assert any("| no verdict | linucb |" in row for row in page.splitlines())
