"""Intervals where visitors come back, each with a hidden mood and hidden tastes.

`SLATEFLOW_BENCHMARK_LOGS` draws more logs.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from scipy import special

from slateflow.evaluation.off_policy.contributions import Contributions
from slateflow.evaluation.off_policy.estimates import estimate_policies
from tests.benchmarks.held_intervals import Judged, of_logs, print_held
from tests.evaluation.off_policy.returning_visitors import TARGETS, ReturningVisitors

LOGS = int(os.environ.get("SLATEFLOW_BENCHMARK_LOGS", "100"))
ROWS = 8_000


def verdicts(shop: ReturningVisitors, known: bool, seed: int) -> Judged:
    """Verdicts from a log of a random policy, with or without the visitors' names."""
    with TemporaryDirectory() as folder:
        column = 'visitor = "who"' if known else ""
        dataset = shop.logs(Path(folder), ROWS // shop.visits, seed, column)
        found = estimate_policies(dataset, TARGETS, held_out_only=False).policies
    judged = {name: one.contributions for name, one in found.items()}
    judged["uplift"] = judged["the best"] - judged["random"]
    refused = any(one.refusal is not None for one in found.values())
    return {name: (one.value, *one.interval(), refused) for name, one in judged.items()}


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "shop",
    [
        *(ReturningVisitors(visits) for visits in (1, 5, 20, 100, 200)),
        *(ReturningVisitors(*one) for one in ((5, 0.5), (20, 0.8), (20, 0.5))),
        *(ReturningVisitors(visits, keeps=True) for visits in (5, 20)),
    ],
    ids=lambda shop: f"{shop.visits}-{shop.left:g}{'-kept' * shop.keeps}",
)
def test_returning_visitors(shop, known, capsys):
    """Print how often intervals hold."""
    truth = shop.values()
    truth["uplift"] = truth["the best"] - truth["random"]
    found = of_logs(partial(verdicts, shop, known), range(LOGS))
    with capsys.disabled():
        who = "known" if known else "not known"
        print(f"\n{shop}, {who} again")
        print(f"{LOGS} logs of {ROWS:,} decisions")
        print_held(found, truth, digits=4)


VISITORS, UNEVEN_LOGS = 2_500, 3 * LOGS
VISITS = {
    "log-normal, σ = 1.5": lambda rng, count: rng.lognormal(0.0, 1.5, count),
    "Pareto, α = 1.2, at most 400": lambda rng, count: rng.pareto(1.2, count).clip(None, 400),
    "Pareto, α = 1.0, at most 2,000": lambda rng, count: rng.pareto(1.0, count).clip(None, 2_000),
}


def likes(visits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Probabilities (V,) of a click: moods, which rise with the number of visits."""
    return special.expit(-1.5 + 0.4 * np.log(visits) + 0.8 * rng.normal(size=len(visits)))


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("form", VISITS)
def test_visitors_of_whom_few_have_most_visits(form, capsys):
    """Print how often intervals of a random policy hold, and Student's with full degrees."""
    rng = np.random.default_rng(1_000_003)
    visits = np.ceil(VISITS[form](rng, 10_000_000))
    truth, held = float(likes(visits, rng) @ visits / visits.sum()), []
    for seed in range(UNEVEN_LOGS):
        rng = np.random.default_rng(seed)
        visits = np.ceil(VISITS[form](rng, VISITORS)).astype(np.intp)
        visitor = np.repeat(np.arange(VISITORS), visits)
        clicks = rng.random(len(visitor)) < likes(visits, rng)[visitor]
        found = Contributions(clicks.astype(np.float64)).of_visitors(visitor)
        usual = float(special.stdtrit(VISITORS - 1, 0.975)) * found.sem
        low, high = found.interval()
        off = abs(found.value - truth)
        held.append((off <= usual, usual, low <= truth <= high, (high - low) / 2))
    every = np.array(held)
    with capsys.disabled():
        print(f"\n{form}: {UNEVEN_LOGS} logs of {VISITORS:,} visitors; usual held, ±; held, ±")
        shares, halves = every[:, ::2].mean(axis=0), np.median(every[:, 1::2], axis=0)
        print(f"{shares[0]:.3f} {halves[0]:.3f} {shares[1]:.3f} {halves[1]:.3f}")
