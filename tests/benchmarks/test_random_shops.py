"""Verdicts and learners on logs of random shops: are they right without tuning?

`SLATEFLOW_BENCHMARK_SEED` draws other shops, `SLATEFLOW_BENCHMARK_SHOPS` has numbers of shops, as
in `3,21`, or how many, as in `60`, and `SLATEFLOW_BENCHMARK_LEARNERS` has other learners.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.trajectories import Folder
from slateflow.trajectories.held_out import training_logs
from tests.benchmarks.held_intervals import of_logs
from tests.benchmarks.random_shops import RandomShop
from tests.benchmarks.shop_settings import SEED, learners_of, shop_numbers


@dataclass(frozen=True)
class Judged:
    """A policy's true value and its verdict.

    Attributes:
        true: Mean return of a session in play.
        score: Score of that return: 0 is random, 1 the highest reward at each step.
        interval: Interval of the estimate.
        uplift: True uplift over random.
        over: Interval of the estimated uplift.
        refusal: Reason without a verdict; empty with one.
    """

    true: float
    score: float
    estimate: float
    interval: tuple[float, float]
    uplift: float
    over: tuple[float, float]
    refusal: str

    @property
    def held(self) -> bool:
        """True if the interval contains the true value."""
        return self.interval[0] <= self.true <= self.interval[1]

    @property
    def uplift_held(self) -> bool:
        """True if the interval of the uplift contains the true uplift."""
        return self.over[0] <= self.uplift <= self.over[1]

    @property
    def off(self) -> float:
        """Error of the estimate, in standard errors of a normal interval."""
        low, high = self.interval
        return (self.estimate - self.true) / ((high - low) / 3.92 or 1.0)


def outcome(slates: bool, number: int) -> tuple[RandomShop, dict[str, Judged]]:
    """Verdicts from a shop's logs, by policy."""
    shop = RandomShop(number, SEED, slates)
    with tempfile.TemporaryDirectory() as folder:
        dataset = shop.logs(Path(folder) / "logs", seed=1)
        stage = shop.stage(Path(folder) / "stage", dataset)
        training = training_logs(dataset, Folder(f"{folder}/training/shop"))
        learnt = {
            learner: ScoringPolicy(train(training, learner_config(learner))[0])
            for learner in learners_of(slates)
        }
        policies = {"random": RandomPolicy(shop.places), **learnt}
        found = estimate_policies(dataset, policies, held_out_only=True).policies
        random, best = stage.value(policies["random"]), stage.value(None)
        judged, of_random = {}, found["random"].refusal
        for name, policy in policies.items():
            true, own = stage.value(policy), found[name]
            # A comparison with a refused policy is not possible
            refusal = own.refusal or (of_random and f"random: {of_random}")
            judged[name] = Judged(
                true,
                (true - random) / (best - random),
                own.contributions.value,
                own.contributions.interval(),
                true - random,
                own.over(found["random"]).compare().ci,
                "" if refusal is None else str(refusal),
            )
    return shop, judged


@pytest.mark.benchmark
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("slates", [False, True], ids=["items", "slates"])
def test_random_shops(slates, capsys):
    """Print each shop, then by form and policy how often there are verdicts, and hold."""
    numbers = shop_numbers()
    found = of_logs(partial(outcome, slates), numbers)
    with capsys.disabled():
        for number, (shop, judged) in zip(numbers, found, strict=True):
            print(f"{number:3} {shop}")
            for name, one in judged.items():
                low, high = one.interval
                told = one.refusal or ("" if one.held else f"{one.off:+.1f} standard errors")
                print(
                    f"    {name:9} true {one.true:7.3f} score {one.score:6.3f} "
                    f"estimate {one.estimate:7.3f} [{low:.3f}, {high:.3f}] {told}"
                )
        print("\nlogs      policy     shops  refused  held  uplift   score: min, median")
        for title, single in (("single", True), ("sessions", False)):
            some = [judged for shop, judged in found if (shop.ends == "single") is single]
            for name in ("random", *learners_of(slates)) if some else ():
                each = [judged[name] for judged in some]
                given = [one for one in each if not one.refusal]
                held, over = (
                    np.mean([getattr(one, name) for one in given] or [np.nan])
                    for name in ("held", "uplift_held")
                )
                scores = [one.score for one in each]
                print(
                    f"{title:9} {name:10} {len(each):5} {1 - len(given) / len(each):8.2f} "
                    f"{held:5.2f} {over:7.2f}   "
                    f"{min(scores):6.3f}, {np.median(scores):.3f}"
                )
        every = [one for _, judged in found for one in judged.values() if not one.refusal]
        over = [
            one.uplift_held
            for _, judged in found
            for name, one in judged.items()
            if name != "random" and not one.refusal
        ]
        furthest = max((abs(one.off) for one in every), default=0.0)
        print(
            f"\n{sum(one.held for one in every)} of {len(every)} intervals hold; the estimate that "
            f"is furthest off is {furthest:.1f} standard errors; {sum(over)} of {len(over)} "
            "intervals of uplifts over random hold"
        )
