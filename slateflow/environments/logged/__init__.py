"""Own logs: a world of which the decisions are known, but not the dynamics."""

from slateflow.environments.logged.spec import LoggedSpec, no_rules, no_simulator
from slateflow.environments.worlds import World

__all__ = ["WORLD", "LoggedSpec"]

WORLD = World(
    spec=LoggedSpec,
    presets=(),
    simulator=no_simulator,
    recsim=no_simulator,
    rules=no_rules,
    labels={},
)
