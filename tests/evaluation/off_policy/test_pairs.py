"""Policies are compared by corrections of one kind."""

from __future__ import annotations

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy
from slateflow.trajectories import Folder, Recipe, generate
from tests.evaluation.off_policy.first_on_offer import FirstOnOffer

LOGS = Recipe("sweets", "lts-10-1", 200, 20_000, {"random": 0.5, "greedy": 0.5})


def test_policies_that_are_alike_differ_by_little(tmp_path):
    """Candidates have no order, so the first is as good as any; learnt weights reflect that.

    By propensities it has only the few sessions in which the first was drawn; random has all.
    """
    targets = {"random": RandomPolicy(1), "first": FirstOnOffer(1)}
    found = estimate_policies(generate(LOGS, Folder(str(tmp_path))), targets, held_out_only=False)
    random, first = (found.policies[name] for name in targets)
    over, mixed = first.over(random), first.contributions - random.contributions
    low, high = over.interval()
    assert low <= 0 <= high
    assert over.sem < mixed.sem / 3
