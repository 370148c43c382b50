"""The record of a world: all that the rest of Slateflow asks about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slateflow.environments.rules import ScoringRule
from slateflow.environments.spec import EnvironmentSpec


@dataclass(frozen=True)
class World:
    """A family of dynamics; `spec` types its parameters, and presets are named parameters.

    Fields that may be a reference ("package.module:name") are imported when they are asked for.

    Attributes:
        spec: Class of the parameters.
        presets: Named specs, each with a recipe of its name.
        simulator: Class of the batched simulator, or a reference to it.
        rules: From a spec to its scoring rules by name; `greedy` is what pays most at once as far
            as the observation shows it, and `opposite` follows from it.
        labels: What the behaviour policies `greedy` and `opposite` do in this world.
        recsim: Class of RecSim's own environment, or a reference to it; None where RecSim has no
            such world.
        optimum: Function from a spec to the best expected return of an episode, or None where
            that is unknown; may be a reference.
        catalogue: Function from a spec to the features (M, D) of the items that candidates come
            from, where they come from a fixed set; may be a reference.
        rllib_names: Names in RLlib's registry, and the presets behind them.
        categorical_responses: Response columns that number categories, and so have no sum.
        user_label: What the user's first feature is called in descriptions; empty for none.
        responses_of_reward: Function from rewards (R,) to `clicked` and the response columns,
            where these follow from the reward; may be a reference.
    """

    spec: type[EnvironmentSpec]
    presets: tuple[EnvironmentSpec, ...]
    simulator: Any
    rules: Callable[[Any], Mapping[str, ScoringRule]]
    labels: Mapping[str, str]
    recsim: Any = None
    optimum: Any = None
    catalogue: Any = None
    rllib_names: Mapping[str, str] = field(default_factory=dict)
    categorical_responses: tuple[str, ...] = ()
    user_label: str = ""
    responses_of_reward: Any = None

    @property
    def name(self) -> str:
        """The world's name, that of its specs."""
        return self.spec.world
