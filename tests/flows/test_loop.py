"""The loop of a shop: served by the champion, logged, learnt from; and what ends in no verdict."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from prefect.client.orchestration import get_client

from flows.cli.main import main
from slateflow.trajectories.sources.example import Shop
from tests.flows.nights import EPSILON, nights
from tests.flows.nights import recipes as recipes


def test_three_nights_lead_to_a_champion_by_logs_alone(recipes, capsys):
    found = list(nights(recipes, 3, 6000, lambda: capsys.readouterr().out, "linucb"))
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


def test_wrong_propensities_end_in_no_verdict_wherever_verdicts_stand(recipes, capsys):
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
