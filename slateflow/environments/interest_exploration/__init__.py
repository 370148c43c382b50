"""RecSim's interest exploration: what most users click hides what a niche would click."""

from slateflow.environments.interest_exploration.spec import InterestExplorationSpec
from slateflow.environments.rules import first_feature
from slateflow.environments.worlds import World

_HERE = __name__

WORLD = World(
    spec=InterestExplorationSpec,
    presets=(InterestExplorationSpec("interest-exploration", 10, 3),),
    simulator=f"{_HERE}.simulator:BatchedInterestExploration",
    recsim=f"{_HERE}.recsim:RecSimInterestExploration",
    rules=lambda spec: {"greedy": first_feature, "quality": first_feature},
    labels={"greedy": "best quality", "opposite": "worst quality"},
    rllib_names={"interest_exploration": "interest-exploration"},
    categorical_responses=("cluster",),
)
