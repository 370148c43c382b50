"""The plan of a dataset: its parts, and the episodes and random streams of each."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from slateflow.policies import Behaviour
from slateflow.trajectories.files.part_files import PartFile, part_path
from slateflow.trajectories.generation.recipe import Recipe

BLOCK_EPISODES = 500
"""Episodes in a part. Fixed, because the random streams belong to the part."""


@dataclass(frozen=True)
class PlannedPart:
    """A part of a dataset, before it is made."""

    policy: str
    behaviour: str | Behaviour
    path: str
    seed_block: int
    first_episode: int
    episodes: int
    day: str = ""  # key of its night, where the dataset has several

    def key(self, seed: int) -> dict[str, Any]:
        """The inputs of the part; a file with a different key in its metadata is another part."""
        parts = ("policy", "seed_block", "first_episode", "episodes")
        key = {"seed": seed, **{name: getattr(self, name) for name in parts}}
        if isinstance(self.behaviour, Behaviour):
            key["behaviour"] = self.behaviour.to_dict()
        return key

    def manifest_entry(self, rows: int, sha256: str) -> PartFile:
        """The manifest's entry for the part, once it has been made."""
        return PartFile(
            self.path, self.policy, self.seed_block, self.episodes, rows, sha256, self.day
        )


def plan_nights(recipe: Recipe) -> list[tuple[Recipe, list[PlannedPart]]]:
    """The parts of each night of a dataset.

    Their rows are those of the night by itself, except that with several nights each has its own
    episode numbers, which are the same in every dataset.
    """
    if recipe.nights == 1:
        return [(recipe, plan(recipe))]
    return [(one, _numbered(one, number)) for number, one in enumerate(recipe.single_nights())]


def _numbered(recipe: Recipe, number: int) -> list[PlannedPart]:
    document = json.dumps([recipe.spec.to_dict(), recipe.to_dict()], sort_keys=True)
    day = hashlib.sha256(document.encode()).hexdigest()[:16]
    planned = plan(recipe)
    counts = Counter(part.policy for part in planned)
    places: Counter[str] = Counter({policy: number * count for policy, count in counts.items()})
    numbered = []
    for part in planned:
        path = part_path(part.policy, places[part.policy])
        places[part.policy] += 1
        first = recipe.seed % 2**31 * 2**32 + part.first_episode
        numbered.append(replace(part, path=path, first_episode=first, day=day))
    return numbered


def plan(recipe: Recipe) -> list[PlannedPart]:
    """The parts of a night, in the order of its rows."""
    sizes = [
        (policy, number, min(BLOCK_EPISODES, count - number * BLOCK_EPISODES))
        for policy, count in recipe.policy_episodes().items()
        for number in range(-(-count // BLOCK_EPISODES))
    ]
    behaviours = recipe.behaviours
    first = accumulate((episodes for _, _, episodes in sizes), initial=0)
    return [
        PlannedPart(
            policy,
            behaviours[policy],
            part_path(policy, number),
            index,
            start,
            episodes,
        )
        for index, ((policy, number, episodes), start) in enumerate(zip(sizes, first, strict=False))
    ]
