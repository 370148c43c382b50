"""The simulation of parts: many episodes side by side become rows by episode, then step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, batched_environment
from slateflow.policies import behaviour_policy
from slateflow.policies.play import Step, play, seed_of
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.generation.plan import BLOCK_EPISODES, PlannedPart
from slateflow.trajectories.schema import Trajectories, columns_of

MAX_PARTS_AT_ONCE = 4
"""Most parts simulated in one batch; they share the cost of a step."""

BATCH_BYTES = 200_000_000
"""Most bytes that a batch may hold if all its episodes have the greatest length."""


def batches(
    spec: EnvironmentSpec, parts: Sequence[PlannedPart], workers: int
) -> list[list[PlannedPart]]:
    """Neighbouring parts of one policy and one size, in lists small enough to simulate at once."""
    at_once = min(_parts_at_once(spec), -(-len(parts) // workers))
    alike = [list(group) for _, group in groupby(parts, lambda part: (part.policy, part.episodes))]
    return [
        group[start : start + at_once] for group in alike for start in range(0, len(group), at_once)
    ]


# Numbers that are not finite are refused before they are written
@np.errstate(over="ignore", invalid="ignore")
def _parts_at_once(spec: EnvironmentSpec) -> int:
    step = next(play(batched_environment(spec, 1, seed=0), behaviour_policy("random", spec), 0))
    logged = sum(values.nbytes for values in logged_columns(step).values())
    observed = step.observation["user"].nbytes + step.observation["candidates"].nbytes
    part = BLOCK_EPISODES * (spec.horizon * logged + 4 * observed)
    return max(1, min(MAX_PARTS_AT_ONCE, BATCH_BYTES // part))


@np.errstate(over="ignore", invalid="ignore")
def simulate(
    spec: EnvironmentSpec, parts: Sequence[PlannedPart], seed: int
) -> Iterator[Trajectories]:
    """Play the episodes of parts of one policy and one size, then give the rows part by part.

    The parts are lanes of one batch, which shares the cost of a step; each part draws from random
    streams of its own.
    """
    lanes = sum(part.episodes for part in parts)
    env = batched_environment(spec, lanes, common_numbers=False)
    seeds = [seed_of(np.random.SeedSequence(seed, spawn_key=(part.seed_block,))) for part in parts]
    buffer = StepBuffer(play(env, behaviour_policy(parts[0].behaviour, spec), seeds), spec)
    return buffer.parts(parts)


class StepBuffer:
    """The steps of all B lanes as they were played, and the rows of some lanes."""

    def __init__(self, steps: Iterator[Step], spec: EnvironmentSpec) -> None:
        self._spec = spec
        self._catalogue = Catalogue.of_world(spec)
        self._steps = [(step.lanes, logged_columns(step)) for step in steps]
        lanes = [lanes for lanes, _ in self._steps]
        self.lengths = np.bincount(np.concatenate(lanes))  # (B,) steps of each lane
        self._first = np.cumsum(self.lengths) - self.lengths  # row of each lane's first step
        self._same_length = bool((self.lengths == len(self._steps)).all())
        if self._same_length:
            return
        places = np.concatenate([self._first[stay] + step for step, stay in enumerate(lanes)])
        self._order = np.empty_like(places)
        self._order[places] = np.arange(len(places))
        self._by_step = {
            name: np.concatenate([columns.pop(name) for _, columns in self._steps])
            for name in list(self._steps[0][1])
        }

    def parts(self, parts: Sequence[PlannedPart]) -> Iterator[Trajectories]:
        """The rows of each part in turn; the lanes follow the order of the parts."""
        names = [name for name in columns_of(self._spec) if name != "episode"]
        first = 0
        for part in parts:
            last = first + part.episodes
            numbers = np.arange(part.first_episode, part.first_episode + part.episodes)
            episode = np.repeat(numbers, self.lengths[first:last])
            values = {name: self.rows(name, first, last) for name in names} | {"episode": episode}
            yield Trajectories.from_columns(values, self._spec, self._catalogue)
            first = last

    def rows(self, name: str, first: int, last: int) -> NDArray[Any]:
        """A column of the lanes from `first` to below `last`, by lane, then step."""
        if not self._same_length:
            chosen = slice(self._first[first], self._first[last - 1] + self.lengths[last - 1])
            return self._by_step[name].take(self._order[chosen], axis=0)
        values, steps = self._steps[0][1][name], len(self._steps)
        rows = np.empty(((last - first) * steps, *values.shape[1:]), values.dtype)
        placed = _whole_rows(rows)
        for number, (_, columns) in enumerate(self._steps):
            placed[number::steps] = _whole_rows(columns[name][first:last])
        return rows


def logged_columns(step: Step) -> dict[str, NDArray[Any]]:
    """The columns of one step by name, each (A, …)."""
    return {
        "step": step.observation["step"][:, 0],
        "user": step.observation["user"],
        "candidates" if step.candidates.ndim == 3 else "items": step.candidates,
        "slate": step.slates,
        "propensity": step.propensities,
        "reward": step.rewards.astype(np.float32),
        "terminated": step.terminated,
        "truncated": step.truncated,
        **step.responses,  # clicked and the response columns
    }


def _whole_rows(values: NDArray[Any]) -> NDArray[Any]:
    """Values (R, …) viewed as R items, each of which is copied at once, not number by number."""
    if values.ndim == 1 or not values.size:
        return values
    return values.reshape(len(values), -1).view(np.dtype((np.void, values[0].nbytes)))[:, 0]
