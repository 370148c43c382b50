"""Ten nights of a shop whose recommender learns from what it showed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.flows.nights import EPSILON, nights
from tests.flows.nights import recipes as recipes

VISITS = 8_000


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_ten_nights(recipes, capsys):
    """Print each night's verdict, and what its champion is worth."""
    with capsys.disabled():
        print(
            f"\n{VISITS:,} visits a day, random 0 and the optimum 1; served with epsilon {EPSILON}"
        )
        print("night  rows     verdict     best      over champion               champion  served")
    found = []
    for night in nights(recipes, 10, VISITS, lambda: capsys.readouterr().out, "linucb,logistic"):
        found.append(night)
        document, best = night.document, night.document["candidates"][0]
        over = best["over_champion"]
        text = (
            "" if over is None else "{:+.5f} [{:+.5f}, {:+.5f}]".format(over["uplift"], *over["ci"])
        )
        with capsys.disabled():
            print(
                f"{len(found):5}  {document['dataset']['rows']:7,}  {night.state:10}  "
                f"{best['learner']:8}  {text:30}  {night.share:.3f}     "
                f"{night.share * (1 - EPSILON):.3f}"
            )
    assert {night.document["evidence"] for night in found} == {"logs"}
    assert all(night.document["optimum"] is None for night in found)  # nothing was played
    shares = np.array([0.0, *(night.share for night in found)])
    assert (np.diff(shares) > -0.02).all(), shares
    assert shares[-1] >= 0.9, shares
