"""RecSim's long-term satisfaction: clickbait is watched now and wears the user out."""

from typing import Any

from slateflow.environments.long_term_satisfaction.spec import LongTermSatisfactionSpec
from slateflow.environments.rules import first_feature
from slateflow.environments.worlds import World

_MODIFIED: dict[str, Any] = {
    "sensitivity": 0.058,
    "time_budget": 120,
    "choc_stddev": 0.1,
    "kale_stddev": 0.1,
}

WORLD = World(
    spec=LongTermSatisfactionSpec,
    presets=(
        LongTermSatisfactionSpec(
            "modified-lts-20-2", 20, 2, satisfaction_observed=True, **_MODIFIED
        ),
        LongTermSatisfactionSpec(
            "modified-lts-10-1", 10, 1, satisfaction_observed=True, **_MODIFIED
        ),
        LongTermSatisfactionSpec("modified-lts-20-2-hidden", 20, 2, **_MODIFIED),
        LongTermSatisfactionSpec("lts-20-2", 20, 2),
        LongTermSatisfactionSpec("lts-10-1", 10, 1),
    ),
    simulator=f"{__name__}.simulator:BatchedLongTermSatisfaction",
    recsim=f"{__name__}.recsim:RecSimLongTermSatisfaction",
    optimum=f"{__name__}.optimum:optimal_return",
    optimal_rule=f"{__name__}.optimum:OptimalRule",
    rules=lambda spec: {"greedy": first_feature},
    labels={"greedy": "most clickbait", "opposite": "least clickbait"},
    rllib_names={"modified_lts": "modified-lts-20-2", "long_term_satisfaction": "lts-20-2"},
    user_label="satisfaction",
    responses_of_reward=f"{__name__}.dynamics:responses_of_reward",
)
