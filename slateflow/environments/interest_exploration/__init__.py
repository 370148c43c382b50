"""RecSim's interest exploration: clicks of most users hide those of a niche."""

from slateflow.environments.interest_exploration.spec import InterestExplorationSpec
from slateflow.environments.rules import first_feature
from slateflow.environments.worlds import World

WORLD = World(
    spec=InterestExplorationSpec,
    presets=(InterestExplorationSpec("interest-exploration", 10, 3),),
    simulator=f"{__name__}.simulator:BatchedInterestExploration",
    recsim=f"{__name__}.recsim:RecSimInterestExploration",
    rules=lambda spec: {"greedy": first_feature, "quality": first_feature},
    labels={"greedy": "best quality", "opposite": "worst quality"},
    rllib_names={"interest_exploration": "interest-exploration"},
    categorical_responses=("cluster",),
)
