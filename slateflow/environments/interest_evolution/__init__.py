"""RecSim's interest evolution: likes of now cost session time, good documents give some."""

from slateflow.environments.interest_evolution import dynamics
from slateflow.environments.interest_evolution.spec import InterestEvolutionSpec
from slateflow.environments.rules import ClusterQuality, ScoringRule, affinity
from slateflow.environments.worlds import World


def _rules(spec: InterestEvolutionSpec) -> dict[str, ScoringRule]:
    quality = ClusterQuality(tuple(dynamics.cluster_means(spec).tolist()))
    return {"greedy": affinity, "affinity": affinity, "quality": quality}


WORLD = World(
    spec=InterestEvolutionSpec,
    presets=(InterestEvolutionSpec("interest-evolution", 10, 3),),
    simulator=f"{__name__}.simulator:BatchedInterestEvolution",
    recsim=f"{__name__}.recsim:RecSimInterestEvolution",
    rules=_rules,
    labels={"greedy": "best match", "opposite": "worst match"},
    catalogue=dynamics.catalogue_features,
    rllib_names={"interest_evolution": "interest-evolution"},
    categorical_responses=("cluster",),
)
