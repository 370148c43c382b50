"""A recipe says how a dataset is made: the world, how many episodes, by which policies."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slateflow.environments import EnvironmentSpec, preset
from slateflow.errors import InputError, unknown
from slateflow.policies import BEHAVIOURS

_FIELDS = ("environment", "episodes", "seed", "policies", "parameters")


@dataclass(frozen=True)
class Recipe:
    """What `datasets/<name>.toml` says.

    Attributes:
        name: Name of the dataset; the recipe's file without its ending.
        environment: Preset.
        episodes: Episodes in the dataset, over all policies.
        seed: Seed of everything random in it.
        policies: Share of the episodes of each behaviour policy; they add up to 1.
        parameters: Fields of the environment's spec that differ from the preset.
    """

    name: str
    environment: str
    episodes: int
    seed: int
    policies: dict[str, float]
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
        for policy, share in self.policies.items():
            if policy not in BEHAVIOURS:
                raise unknown("policy", policy, list(BEHAVIOURS))
            if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
                raise InputError(f"policies.{policy}: expected a share in (0, 1], got {share!r}")
        if abs(sum(self.policies.values()) - 1) > 1e-9:
            raise InputError(
                f"policies: expected shares that add up to 1, got {sum(self.policies.values()):g}"
            )
        if not isinstance(self.parameters, dict):
            raise InputError(f"parameters: expected a table, got {self.parameters!r}")
        self.spec  # noqa: B018 - a recipe for a world that does not exist is refused here

    @property
    def spec(self) -> EnvironmentSpec:
        """The world it describes."""
        return preset(self.environment, **self.parameters)

    def policy_episodes(self) -> dict[str, int]:
        """Episodes of each policy; they add up to `episodes` exactly.

        Example:
            >>> Recipe("r", "lts-10-1", 5, 0, {"random": 0.5, "greedy": 0.5}).policy_episodes()
            {'random': 2, 'greedy': 3}
        """
        bounds, cumulated = [0], 0.0
        for share in self.policies.values():
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
        return {name: getattr(self, name) for name in _FIELDS}


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
