"""The rows that are evidence, and probabilities of their slates under the logging policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.policies.base import SlateDistribution
from slateflow.policies.behaviour import Behaviour, behaviour_policy
from slateflow.trajectories import Dataset, Recipe, Trajectories
from slateflow.trajectories.held_out import parts_and_held_out

Array = NDArray[np.float64]


def evidence_parts(dataset: Dataset, *, held_out_only: bool) -> Iterator[tuple[str, Trajectories]]:
    """The rows of held-out sessions or of all, part by part, and the policy that wrote them.

    A policy that was learnt from a dataset is evaluated on the sessions that it has not seen.
    """
    for part, rows, held_out in parts_and_held_out(dataset):
        yield part.policy, rows.where(held_out) if held_out_only else rows


def require_two(sessions: int, dataset: Dataset, *, held_out_only: bool) -> None:
    """Refuse evidence without a standard error, of fewer than two sessions.

    Raises:
        InputError: There are fewer than two sessions.
    """
    if sessions < 2:
        which = "held-out sessions" if held_out_only else "sessions"
        raise InputError(
            f"{dataset.path}: expected at least 2 {which} as evidence, got {sessions} "
            f"of {dataset.episodes} sessions; log more"
        )


def simulated_recipe(dataset: Dataset) -> Recipe | None:
    """The recipe by which a dataset, or the source of training logs, was simulated.

    None for imported and own logs.
    """
    recipe = {key: value for key, value in dataset.recipe.items() if key != "held_in_of"}
    return Recipe(name="logged", **recipe) if "policies" in recipe else None


def logged_behaviours(dataset: Dataset) -> dict[str, str | Behaviour]:
    """The policies that wrote rows, by the dataset's recipe; a small share may have no episode.

    Empty for imported and own logs.
    """
    recipe, wrote = simulated_recipe(dataset), {part.policy for part in dataset.parts}
    if recipe is None:
        return {}
    return {name: one for name, one in recipe.behaviours.items() if name in wrote}


@dataclass(frozen=True)
class LoggingPolicies:
    """The policies behind logs, where they are known: those of a simulated recipe.

    Together they are a mixture, which draws one policy for each session. Weighted against the
    mixture, a row of a deterministic policy is evidence, too (the balance heuristic of Veach and
    Guibas 1995).
    """

    policies: tuple[tuple[float, SlateDistribution], ...]  # share of the sessions, and the policy

    @classmethod
    def of(cls, dataset: Dataset) -> LoggingPolicies:
        """The behaviour policies of a dataset's recipe; none where they are unknown."""
        recipe = simulated_recipe(dataset)
        known = [] if recipe is None else recipe.logging_policies.values()
        return cls(
            tuple((one.share, behaviour_policy(one.behaviour, dataset.spec)) for one in known)
        )

    def each(self, rows: Trajectories, block: slice, *, slates: bool) -> Array:
        """Probabilities (B, L) with which each policy shows what users saw.

        Args:
            rows: Logged steps.
            block: B of the steps.
            slates: Whether users saw the whole slates, or only the first place.
        """
        observation, shown = rows.observation(block), rows.slate[block]
        found = [
            policy.propensities(observation, shown)
            if slates
            else _at(policy.first_place(observation), shown[:, :1])
            for _, policy in self.policies
        ]
        return np.stack(found, axis=1)

    def first_places(self, rows: Trajectories, block: slice) -> Array:
        """Probabilities (B,) of the item in the first place under the mixture."""
        if not self.policies:
            return rows.propensity[block]
        shares = np.array([share for share, _ in self.policies])
        return np.asarray(self.each(rows, block, slates=False) @ shares)


def _at(values: Array, places: NDArray[Any]) -> Array:
    return np.take_along_axis(values, places, axis=1)[:, 0]
