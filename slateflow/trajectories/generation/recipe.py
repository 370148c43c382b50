"""A recipe says how a dataset is made: the world, how many episodes, by which policies."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slateflow.environments import EnvironmentSpec, preset
from slateflow.errors import InputError, unknown
from slateflow.policies import BEHAVIOURS, Behaviour, behaviour_policy

_FIELDS = ("environment", "episodes", "seed", "policies", "parameters")
_SETTINGS = ("share", "scorer", "epsilon", "temperature")
_PARTITION = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Names that a `policy=…` folder can have on any filesystem and in any URL."""


@dataclass(frozen=True)
class Recipe:
    """What `datasets/<name>.toml` says.

    Attributes:
        name: Name of the dataset; the recipe's file without its ending.
        environment: Preset.
        episodes: Episodes in the dataset, over all policies.
        seed: Seed of everything random in it.
        policies: Share of the episodes of each behaviour policy; they add up to 1. Of `random`,
            `greedy` and `opposite` it is a number; a policy with a name of its own has a table
            with its `share` and the settings of a `Behaviour`.
        parameters: Fields of the environment's spec that differ from the preset.
    """

    name: str
    environment: str
    episodes: int
    seed: int
    policies: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("episodes", "seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise InputError(f"{name}: expected a whole number, got {value!r}")
        if self.episodes < 1:
            raise InputError(f"episodes: expected at least 1, got {self.episodes}")
        if self.seed < 0:
            raise InputError(f"seed: expected 0 or more, got {self.seed}")
        if not isinstance(self.policies, dict) or not self.policies:
            raise InputError(f"policies: expected a table of shares, got {self.policies!r}")
        for policy in self.policies:
            self._check_policy(policy)
        if abs(sum(self.shares.values()) - 1) > 1e-9:
            raise InputError(
                f"policies: expected shares that add up to 1, got {sum(self.shares.values()):g}"
            )
        if not isinstance(self.parameters, dict):
            raise InputError(f"parameters: expected a table, got {self.parameters!r}")
        spec = self.spec  # a world that does not exist is refused here
        for policy, entry in self.policies.items():
            if isinstance(entry, dict):
                try:
                    behaviour_policy(_behaviour(entry), spec)
                except InputError as error:
                    raise InputError(f"policies.{policy}: {error}") from error

    def _check_policy(self, policy: str) -> None:
        entry, where = self.policies[policy], f"policies.{policy}"
        if isinstance(entry, dict):
            if policy in BEHAVIOURS:
                raise InputError(
                    f"{where}: expected a share in (0, 1], got {entry!r}; "
                    "a policy with settings needs a name of its own"
                )
            if not _PARTITION.fullmatch(policy):
                raise InputError(
                    f"{where}: expected a name of a-z, 0-9, '.', '_' and '-', got {policy!r}"
                )
            for key in entry:
                if key not in _SETTINGS:
                    raise InputError(f"{where}: {unknown('setting', key, list(_SETTINGS))}")
            if not set(entry) - {"share"}:
                raise InputError(f"{where}: expected one of {', '.join(_SETTINGS[1:])}, got none")
            entry = entry.get("share")
            where += ".share"
        elif policy not in BEHAVIOURS:
            raise unknown("policy", policy, list(BEHAVIOURS))
        if not isinstance(entry, int | float) or isinstance(entry, bool) or not 0 < entry <= 1:
            raise InputError(f"{where}: expected a share in (0, 1], got {entry!r}")

    @property
    def spec(self) -> EnvironmentSpec:
        """The world it describes."""
        return preset(self.environment, **self.parameters)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the episodes of each behaviour policy."""
        return {
            policy: entry["share"] if isinstance(entry, dict) else entry
            for policy, entry in self.policies.items()
        }

    @property
    def behaviours(self) -> dict[str, str | Behaviour]:
        """Each behaviour policy: its name where it is a plain one, otherwise its settings."""
        return {
            policy: _behaviour(entry) if isinstance(entry, dict) else policy
            for policy, entry in self.policies.items()
        }

    def policy_episodes(self) -> dict[str, int]:
        """Episodes of each policy; they add up to `episodes` exactly.

        Example:
            >>> Recipe("r", "lts-10-1", 5, 0, {"random": 0.5, "greedy": 0.5}).policy_episodes()
            {'random': 2, 'greedy': 3}
        """
        bounds, cumulated = [0], 0.0
        for share in self.shares.values():
            cumulated += share
            bounds.append(round(cumulated * self.episodes))
        return {
            policy: bounds[index + 1] - bounds[index] for index, policy in enumerate(self.policies)
        }

    def varied(self, episodes: int | None = None, seed: int | None = None) -> Recipe:
        """The recipe with another size or seed, under a name that says so."""
        name = self.name
        if episodes is not None and episodes != self.episodes:
            name += f".episodes-{episodes}"
        if seed is not None and seed != self.seed:
            name += f".seed-{seed}"
        return replace(
            self,
            name=name,
            episodes=self.episodes if episodes is None else episodes,
            seed=self.seed if seed is None else seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields but the name, as JSON can hold them."""
        shares, behaviours = self.shares, self.behaviours
        policies = {
            policy: share if isinstance(one, str) else {"share": share, **one.to_dict()}
            for (policy, share), one in zip(shares.items(), behaviours.values(), strict=True)
        }
        return {name: getattr(self, name) for name in _FIELDS} | {"policies": policies}


def _behaviour(entry: dict[str, Any]) -> Behaviour:
    return Behaviour(**{key: value for key, value in entry.items() if key != "share"})


def read_recipe(folder: Path, name: str) -> Recipe:
    """The recipe `<folder>/<name>.toml`.

    Raises:
        InputError: There is no such recipe, or a field of it does not fit; the message names it.
    """
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise unknown("recipe", name, known)
    path = folder / f"{name}.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: expected TOML, got {error}") from error
    for key in document:
        if key not in _FIELDS:
            raise InputError(f"{path.name}: {unknown('field', key, list(_FIELDS))}")
    for key in _FIELDS[:4]:
        if key not in document:
            raise InputError(f"{path.name}: {key}: expected a value, got none")
    try:
        return Recipe(name=name, **document)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
