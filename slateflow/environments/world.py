"""The record of a world: all that the rest of Slateflow asks about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.rules import Opposite, ScoringRule
from slateflow.environments.spec import EnvironmentSpec
from slateflow.errors import InputError, unknown
from slateflow.records import resolve

if TYPE_CHECKING:
    from slateflow.environments.recsim_base import RecSimEnvironment
    from slateflow.environments.simulator import BatchedEnvironment

RULES = ("greedy", "opposite", "affinity", "quality")
"""Names of the scoring rules in a recipe; a world has `greedy` and perhaps more."""


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

    def make_simulator(
        self,
        spec: EnvironmentSpec,
        num_envs: int,
        seed: int | None = None,
        common_numbers: bool = True,
    ) -> BatchedEnvironment[Any]:
        """Make the batched simulator; the arguments are those of `BatchedEnvironment`."""
        made: BatchedEnvironment[Any] = resolve(self.simulator)(
            spec, num_envs, seed, common_numbers
        )
        return made

    def make_recsim(
        self, spec: EnvironmentSpec, seed: int | Sequence[int] | None = None
    ) -> RecSimEnvironment[Any]:
        """Make RecSim's own environment.

        Raises:
            InputError: RecSim has no such world.
        """
        if self.recsim is None:
            raise InputError(
                f"{spec.name}: expected a world of RecSim, got {self.name}, which has only the "
                "batched simulator; play that"
            )
        made: RecSimEnvironment[Any] = resolve(self.recsim)(spec, seed)
        return made

    def optimal_return(self, spec: EnvironmentSpec) -> float | None:
        """Best expected return of an episode; None where it is unknown."""
        found: float | None = None if self.optimum is None else resolve(self.optimum)(spec)
        return found

    def item_features(self, spec: EnvironmentSpec) -> NDArray[np.float32] | None:
        """Features (M, D) of the catalogue; None where candidates are fresh each time."""
        if self.catalogue is None:
            return None
        features: NDArray[np.float32] = resolve(self.catalogue)(spec)
        return features

    def scoring_rule(self, name: str, spec: EnvironmentSpec) -> ScoringRule:
        """The scoring rule of that name.

        Raises:
            InputError: There is no such rule, or the world does not show what it goes by.
        """
        rules = dict(self.rules(spec))
        rules["opposite"] = Opposite(rules["greedy"])
        if name in rules:
            return rules[name]
        if name not in RULES:
            raise unknown("scorer", name, list(dict.fromkeys([*RULES, *rules])))
        raise InputError(
            f"scorer {name!r}: {spec.name} shows nothing to go by; expected one of "
            f"{', '.join(sorted(rules))}"
        )
