"""The list of worlds and their records, the presets by name, and look-ups of a spec's world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments.rules import Opposite, ScoringRule
from slateflow.environments.spec import EnvironmentSpec
from slateflow.errors import InputError, unknown
from slateflow.records import Records, resolve

if TYPE_CHECKING:
    from slateflow.environments.recsim_base import RecSimEnvironment
    from slateflow.environments.simulator import BatchedEnvironment


@dataclass(frozen=True)
class World:
    """A family of dynamics; `spec` types its parameters, and presets are named parameters.

    A function or class may be a reference, "package.module:name", which is imported when it is
    needed.

    Attributes:
        spec: Class of the parameters.
        presets: Named specs, each with a recipe of its name.
        simulator: Class of the batched simulator.
        rules: From a spec to its scoring rules by name; `greedy` prefers the highest immediate
            reward as far as observations show it, and `opposite` follows from it.
        labels: Behaviour of the policies `greedy` and `opposite` in this world, in words.
        recsim: Class of RecSim's own environment; None where RecSim has no such world.
        optimum: From a spec to the best expected return of an episode, or None where it is unknown.
        optimal_rule: From a running batched simulator to the scoring rule that earns its optimum
            and may read hidden state; None without such a rule.
        catalogue: From a spec to the features (M, D) of the items from which candidates come; None
            where these are not a fixed set.
        rllib_names: Names in RLlib's registry, and the presets behind them.
        categorical_responses: Response columns that number categories, and so have no sum.
        user_label: Name of the user's first feature in descriptions; empty for none.
        responses_of_reward: From rewards (R,) to `clicked` and the response columns (R,); None
            where these do not follow from rewards.
    """

    spec: type[EnvironmentSpec]
    presets: tuple[EnvironmentSpec, ...]
    simulator: Callable[..., BatchedEnvironment[Any]] | str
    rules: Callable[[Any], Mapping[str, ScoringRule]]
    labels: Mapping[str, str]
    recsim: Callable[..., RecSimEnvironment[Any]] | str | None = None
    optimum: Callable[[Any], float | None] | str | None = None
    optimal_rule: Callable[[Any], ScoringRule] | str | None = None
    catalogue: Callable[[Any], NDArray[np.float32]] | str | None = None
    rllib_names: Mapping[str, str] = field(default_factory=dict)
    categorical_responses: tuple[str, ...] = ()
    user_label: str = ""
    responses_of_reward: Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]] | str | None = None


WORLDS: Records[World] = Records(
    "world",
    "slateflow.worlds",
    {
        "long_term_satisfaction": "slateflow.environments.long_term_satisfaction:WORLD",
        "interest_evolution": "slateflow.environments.interest_evolution:WORLD",
        "interest_exploration": "slateflow.environments.interest_exploration:WORLD",
        "logged": "slateflow.environments.logged:WORLD",
    },
)

DEFAULT_PRESET = "modified-lts-20-2"

RULES = ("greedy", "opposite", "affinity", "quality")
"""Names of the scoring rules in a recipe; a world has `greedy` and perhaps more."""


def presets() -> dict[str, EnvironmentSpec]:
    """The named specs of all worlds."""
    return {spec.name: spec for world in WORLDS.values() for spec in world.presets}


def preset(name: str, /, **overrides: Any) -> EnvironmentSpec:
    """The preset with this name, with some fields replaced.

    Raises:
        InputError: The preset or a field does not exist, or a value does not fit.

    Example:
        >>> preset("modified-lts-20-2", num_candidates=5).num_candidates
        5
    """
    known = presets()
    if not isinstance(name, str) or name not in known:
        raise unknown("environment", name, list(known))
    spec = known[name]
    fields = [one.name for one in dataclasses.fields(spec) if one.name != "name"]
    for key in overrides:
        if key not in fields:
            raise unknown("environment parameter", key, fields)
    return dataclasses.replace(spec, **overrides)


def spec_from_dict(document: dict[str, Any]) -> EnvironmentSpec:
    """The inverse of `EnvironmentSpec.to_dict`, for specs that were stored with a dataset.

    Raises:
        InputError: The document is not a stored spec, or its world does not exist.
    """
    if not isinstance(document, dict):
        raise InputError(f"environment spec: expected a table of fields, got {document!r}")
    fields = {key: value for key, value in document.items() if key != "world"}
    return WORLDS[document.get("world", "")].spec(**fields)


def world_of(spec: EnvironmentSpec) -> World:
    """The record of a spec's world."""
    return WORLDS[spec.world]


def batched_environment(
    spec: EnvironmentSpec, num_envs: int, seed: int | None = None, common_numbers: bool = True
) -> BatchedEnvironment[Any]:
    """The batched simulator of a spec; the arguments are those of `BatchedEnvironment`."""
    return resolve(world_of(spec).simulator)(spec, num_envs, seed, common_numbers)


def recsim_environment(
    spec: EnvironmentSpec, seed: int | Sequence[int] | None = None
) -> RecSimEnvironment[Any]:
    """RecSim's own environment of a spec.

    Raises:
        InputError: RecSim has no such world.
    """
    environment = resolve(world_of(spec).recsim)
    if environment is None:
        raise InputError(
            f"{spec.name}: expected a world of RecSim, got {spec.world}, which has only the "
            "batched simulator; play that"
        )
    return environment(spec, seed)


def scoring_rule(name: str, spec: EnvironmentSpec) -> ScoringRule:
    """The scoring rule with this name for a spec.

    Raises:
        InputError: The rule does not exist, or the world does not show what it needs.

    Example:
        >>> best_quality = scoring_rule("greedy", preset("interest-exploration"))
        >>> scoring_rule("opposite", preset("interest-exploration")) == Opposite(best_quality)
        True
    """
    rules = dict(world_of(spec).rules(spec))
    rules["opposite"] = Opposite(rules["greedy"])
    if name in rules:
        return rules[name]
    if name not in RULES:
        raise unknown("scorer", name, list(dict.fromkeys([*RULES, *rules])))
    raise InputError(
        f"scorer {name!r}: {spec.name} shows nothing to go by; expected one of "
        f"{', '.join(sorted(rules))}"
    )


def optimal_return(spec: EnvironmentSpec) -> float | None:
    """Best expected return of an episode; None where it is unknown."""
    optimum = resolve(world_of(spec).optimum)
    return None if optimum is None else optimum(spec)
