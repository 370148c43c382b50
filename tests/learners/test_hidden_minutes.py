"""Own logs of users who stay as long as they watch good videos; no column shows it."""

from __future__ import annotations

import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.evaluation.off_policy.slate_feature_selection import with_selected_features
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.trajectories import Folder, generate, read_recipe
from slateflow.user_models.choices import SlateFeatures
from slateflow.user_models.sessions import Sessions
from tests.flows.evolution_customers import RECIPE, EvolutionCustomers

BEST = 287.5
"""Minutes per session of `slateq` with the world's own logs (docs/consumers.md)."""


@pytest.mark.integration
@pytest.mark.timeout(1_200)
def test_what_was_clicked_tells_how_long_users_stay(tmp_path):
    """Good clusters give time back: `slateq` finds them, and verdicts do not find it worse."""
    customers = EvolutionCustomers(600)
    customers.open(tmp_path)
    day = customers.day(None, 1).drop(columns="minutes")
    (tmp_path / "logs").mkdir()
    day.to_parquet(tmp_path / "logs" / "day.parquet")
    text = RECIPE.replace('["interests", "minutes"]', '["interests"]')
    (tmp_path / "videos.toml").write_text(text)
    dataset = generate(read_recipe(tmp_path, "videos"), Folder(str(tmp_path / "data")))
    scorer, _ = train(dataset, learner_config("slateq"))
    # The logs' features are the world's: interests, and clusters in the same order
    random, learnt = (customers.played(one) for one in (RandomPolicy(3), ScoringPolicy(scorer)))
    assert learnt > random + 0.8 * (BEST - random)
    features = SlateFeatures(dataset.spec.features_match, places=True)
    assert with_selected_features(
        Sessions.from_rows(dataset.read(), dataset.spec, features)
    ).by_clicks
    targets = {"random": RandomPolicy(3), "slateq": ScoringPolicy(scorer)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    low, high = found["random"].contributions.interval()
    assert low - 2 < random < high + 2
    low, high = found["slateq"].contributions.interval()
    assert found["slateq"].refusal or low < learnt < high
    assert high > 0.8 * learnt
