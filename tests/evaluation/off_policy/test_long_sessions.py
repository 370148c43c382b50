"""Sessions of slates that policies make three times as long, or a third."""

from __future__ import annotations

import pytest

from slateflow.evaluation import episode_returns
from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.policies import RandomPolicy, behaviour_policy
from slateflow.trajectories import Folder, Recipe, generate

POLICIES = {
    "explorer": {"share": 0.5, "scorer": "greedy", "epsilon": 0.2},
    "contrarian": {"share": 0.5, "scorer": "opposite", "epsilon": 0.2},
}
WORLD = {
    "num_candidates": 18,
    "slate_size": 2,
    "time_budget": 160.0,
    "no_click_mass": 1.2,
    "user_update_alpha": 0.07,
    "user_quality_factor": 1.0,
    "document_quality_factor": 0.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_left_of_a_session_bends(tmp_path, seed):
    """Clicks use up the time; nearly greedy policies get many, nearly opposite ones few.

    With values that are linear in the steps and clicks so far, those of `random` were one to two
    standard errors too high, and the difference three too low.
    """
    recipe = Recipe("long", "interest-evolution", 700, seed, POLICIES, WORLD)
    dataset = generate(recipe, Folder(str(tmp_path)))
    targets = {
        "random": RandomPolicy(dataset.spec.slate_size),
        "greedy": behaviour_policy("greedy", dataset.spec),
    }
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    random, greedy = (episode_returns(dataset.spec, one, 8_000, 9) for one in targets.values())
    for truth, one in (
        (random.mean(), found["random"].contributions),
        ((greedy - random).mean(), found["greedy"].over(found["random"])),
    ):
        low, high = one.interval()
        assert low < truth < high
