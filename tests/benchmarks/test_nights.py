"""Ten nights of recommenders that learn from their own logs: a shop, and RecSim's worlds.

`SLATEFLOW_BENCHMARK_NIGHTS` is the number of nights.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.flows.evolution_customers import EvolutionCustomers
from tests.flows.nights import EPSILON, nights
from tests.flows.nights import recipes as recipes
from tests.flows.satisfaction_customers import SatisfactionCustomers
from tests.flows.shop_customers import ShopCustomers

NIGHTS = int(os.environ.get("SLATEFLOW_BENCHMARK_NIGHTS", "10"))


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("customers", "learners"),
    [
        pytest.param(lambda: ShopCustomers(8_000), "linucb,logistic", id="shop"),
        pytest.param(lambda: SatisfactionCustomers(500), "linucb,fitted-q", id="satisfaction"),
        pytest.param(lambda: EvolutionCustomers(800), "linucb,slateq", id="evolution"),
    ],
)
def test_ten_nights(recipes, customers, learners, capsys):
    """Print each night's verdict, and the value of its champion."""
    open_ = customers()
    with capsys.disabled():
        print(f"\n{open_.name}: random 0 and the best 1; served with epsilon {EPSILON}")
        print("night  rows     verdict     best      over champion or random     champion  served")
    found = []
    for night in nights(recipes, open_, NIGHTS, lambda: capsys.readouterr().out, learners):
        found.append(night)
        document, best = night.document, night.document["candidates"][0]
        over = best["over_champion"] or best  # without a champion the uplift is that over random
        text = "{:+.4f} [{:+.4f}, {:+.4f}]".format(over["uplift"], *over["ci"])
        with capsys.disabled():
            print(
                f"{len(found):5}  {document['dataset']['rows']:7,}  {night.state:10}  "
                f"{best['learner']:8}  {text:30}  {night.share:.3f}     {night.served:.3f}"
            )
            if document["no_verdict"]:
                print(f"       {document['no_verdict']['reason']}")
    assert {night.document["evidence"] for night in found} == {"logs"}
    assert all(night.document["optimum"] is None for night in found)  # nothing was played
    shares = np.array([0.0, *(night.share for night in found)])
    assert (np.diff(shares) > -0.02).all(), shares
    assert shares[-1] >= 0.9, shares
