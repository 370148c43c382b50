"""Recipes: how datasets are made, from the world, the number of episodes and the policies."""

from __future__ import annotations

import re
import tomllib
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import Field

from slateflow.environments import EnvironmentSpec, preset
from slateflow.errors import InputError, refused, unknown
from slateflow.policies import BEHAVIOURS, Behaviour, behaviour_policy
from slateflow.trajectories.sources.recipe import NAME as NAME
from slateflow.trajectories.sources.recipe import LoggedRecipe, logged_recipe, names_logs
from slateflow.validation import MOST_EPISODES, Episodes, Seed, validated

_PARTITION = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Names that are valid in a `policy=…` folder on any filesystem and in any URL."""


@validated
class LoggingPolicy:
    """An entry of a recipe's `[policies]`."""

    share: Annotated[float, Field(gt=0, le=1)]  # share of the episodes
    behaviour: str | Behaviour  # name of a plain policy, or the settings of another


@validated
class Recipe:
    """A file `datasets/<name>.toml`."""

    name: str  # the file's name without its ending. Models are registered under it
    environment: str  # preset
    episodes: Episodes  # episodes in the dataset, over all policies
    seed: Seed  # seed of everything random in it
    # Share of the episodes of each behaviour policy; the shares add up to 1. For `random`, `greedy`
    # and `opposite` it is a number; a policy with another name has a table with its `share` and the
    # settings of a `Behaviour`
    policies: Annotated[dict[str, Any], Field(min_length=1)]
    # Fields of the environment's spec that differ from the preset
    parameters: dict[str, Any] = field(default_factory=dict)
    # Nights whose logs are in the dataset, each with this many episodes; their seeds are
    # consecutive and end with `seed`
    nights: Annotated[int, Field(ge=1, le=10_000)] = 1  # 27 years
    variation: str = ""  # suffix of the dataset's name if episodes or seed are not the file's

    def __post_init__(self) -> None:
        spec = self.spec  # a world that does not exist is refused here
        for name, entry in self.policies.items():
            try:
                behaviour_policy(_logging_policy(name, entry).behaviour, spec)
            except InputError as error:
                raise InputError(f"policies.{name}: {error}") from error
        if self.nights * self.episodes > MOST_EPISODES:
            raise InputError(
                f"nights: expected at most {MOST_EPISODES:,} episodes in all, got {self.nights:,} "
                f"nights of {self.episodes:,}"
            )
        if self.seed < self.nights - 1:
            raise InputError(
                f"nights: expected at most seed + 1 ({self.seed + 1}), because each night before "
                f"has the seed before, got {self.nights}; raise the seed"
            )
        total = sum(policy.share for policy in self.logging_policies.values())
        if abs(total - 1) > 1e-9:
            raise InputError(f"policies: expected shares that add up to 1, got {total:g}")

    def __str__(self) -> str:
        return self.name

    @property
    def dataset_name(self) -> str:
        """Name of the dataset's folder: the recipe's, and how it was varied."""
        return self.name + self.variation

    @property
    def spec(self) -> EnvironmentSpec:
        """The world that the recipe describes."""
        return preset(self.environment, **self.parameters)

    @cached_property
    def logging_policies(self) -> dict[str, LoggingPolicy]:
        """Share and behaviour of each policy."""
        return {name: _logging_policy(name, entry) for name, entry in self.policies.items()}

    @property
    def behaviours(self) -> dict[str, str | Behaviour]:
        """Each behaviour policy: its name if it is a plain one, otherwise its settings."""
        return {name: policy.behaviour for name, policy in self.logging_policies.items()}

    def policy_episodes(self) -> dict[str, int]:
        """Number of episodes of each policy; the numbers add up to exactly `episodes`.

        Example:
            >>> Recipe("r", "lts-10-1", 5, 0, {"random": 0.5, "greedy": 0.5}).policy_episodes()
            {'random': 2, 'greedy': 3}
        """
        shares = [policy.share for policy in self.logging_policies.values()]
        bounds = np.round(np.cumsum([0.0, *shares]) * self.episodes).astype(int)
        return dict(zip(self.policies, np.diff(bounds).tolist(), strict=True))

    def single_nights(self) -> list[Recipe]:
        """The recipe of each night by itself, the first night first."""
        seeds = range(self.seed - self.nights + 1, self.seed + 1)
        return [replace(self, seed=seed, nights=1) for seed in seeds]

    def varied(self, episodes: int | None = None, seed: int | None = None) -> Recipe:
        """The recipe with another size or seed, which the dataset's name shows."""
        changed = {"episodes": episodes, "seed": seed}
        fields: dict[str, Any] = {
            name: value
            for name, value in changed.items()
            if value is not None and value != getattr(self, name)
        }
        suffix = "".join(f".{name}-{value}" for name, value in fields.items())
        return replace(self, variation=self.variation + suffix, **fields)

    def to_dict(self) -> dict[str, Any]:
        """Everything that determines the rows, ready for JSON."""
        policies = {
            name: policy.share
            if isinstance(policy.behaviour, str)
            else {"share": policy.share, **policy.behaviour.to_dict()}
            for name, policy in self.logging_policies.items()
        }
        return {
            "environment": self.environment,
            "episodes": self.episodes,
            "seed": self.seed,
            "policies": policies,
            "parameters": self.parameters,
        } | ({"nights": self.nights} if self.nights > 1 else {})


_FIELDS = ("environment", "episodes", "seed", "policies", "parameters", "nights")


def _logging_policy(name: str, entry: Any) -> LoggingPolicy:
    """Read one entry of `[policies]`."""
    if not isinstance(entry, dict):
        if name not in BEHAVIOURS:
            raise unknown("policy", name, list(BEHAVIOURS))
        return LoggingPolicy(share=entry, behaviour=name)
    if name in BEHAVIOURS:
        raise InputError(
            f"share: expected a number, got {entry!r}; a policy with settings needs a name of its "
            "own"
        )
    if not _PARTITION.fullmatch(name):
        raise InputError(f"expected a name of a-z, 0-9, '.', '_' and '-', got {name!r}")
    settings = dict(entry)
    share = settings.pop("share", None)
    if not settings:
        raise InputError("expected scorer, epsilon or temperature, got none")
    return LoggingPolicy(share=share, behaviour=Behaviour(**settings))


def recipe_names(folder: Path) -> list[str]:
    """Names of the recipes in a folder."""
    return sorted(path.stem for path in folder.glob("*.toml") if NAME.fullmatch(path.stem))


def unknown_recipe(folder: Path, name: str, kind: str = "recipe") -> InputError:
    """An error for a name that no recipe in a folder has; of logs it says how to make one."""
    if names_logs(name):
        source = name if "://" in name else Path(name).absolute()
        return InputError(
            f"{name}: expected the name of a {kind}, got that of a file; of logs, save "
            f'`source = "{source}"`, and their [columns] or format, as {folder}/NAME.toml, and '
            "give NAME"
        )
    return InputError(f"{unknown(kind, name, recipe_names(folder))}; recipes are in {folder}")


AnyRecipe: TypeAlias = Recipe | LoggedRecipe
"""A recipe with an environment, or one with a source."""


def read_recipe(folder: Path, name: str) -> AnyRecipe:
    """The recipe `<folder>/<name>.toml`: of simulated logs, or, with a `source`, of own logs.

    Raises:
        InputError: The recipe does not exist, or a field does not fit; the message names the field.
    """
    known = recipe_names(folder)
    path = folder / f"{name}.toml"
    if name not in known and path in folder.glob("*.toml"):
        raise InputError(
            f"{path.name}: expected a name of A-Z, a-z, 0-9, '.', '_' and '-', with a letter or "
            "a digit first, for the dataset and the model have it, too; rename the file"
        )
    if not known:
        raise InputError(
            f"{folder}: expected recipes (*.toml), found none; use a checkout of the project"
        )
    if name not in known:
        raise unknown_recipe(folder, name)
    with refused(f"{path.name}: expected TOML", tomllib.TOMLDecodeError, UnicodeError, OSError):
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    try:
        if "source" in document or "columns" in document:
            return logged_recipe(name, document, str(folder))
        for key in document:
            if key not in _FIELDS:
                raise unknown("field", key, list(_FIELDS))
        return Recipe(name=name, **document)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
