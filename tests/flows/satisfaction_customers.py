"""Customers of RecSim: sessions of many steps, and what is worth most only shows later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, Observation, batched_environment, preset
from slateflow.evaluation.returns import episode_returns, optimal_returns
from slateflow.policies import RandomPolicy
from slateflow.policies.base import Policy
from slateflow.policies.play import Step, play
from tests.flows.nights import EPSILON

RECIPE = """
source = "logs/*.parquet"
[columns]
episode = "session"
time = "time"
user = ["satisfaction"]
candidates = "offered"
item = "shown"
propensity = "propensity"
reward = "reward"
[items]
file = "items.csv"
id = "id"
features = ["clickbait"]
"""
KINDS = 200
PLAYED, PLAYED_SEED = 2_000, 99


@dataclass
class SatisfactionCustomers:
    """Modified long-term satisfaction, slates of 1: so many sessions a day.

    Whoever keeps a catalogue names items by ids: candidates are items of a kind, which is their
    clickbait score in steps of .005, and of those that a row offers of one kind each is another.

    Attributes:
        sessions: A day.
        parameters: Of the world, where they are not the preset's.
        name: Of the preset, and of the recipe.
        recipe: Of the logs, which know nothing of the world.
    """

    sessions: int
    parameters: dict[str, Any] = field(default_factory=dict)
    name: str = "modified-lts-10-1"
    recipe: str = RECIPE

    @cached_property
    def spec(self) -> EnvironmentSpec:
        """The world's."""
        return preset(self.name, **self.parameters)

    def open(self, folder: Path) -> None:
        """Write the catalogue."""
        kind = np.repeat(np.arange(KINDS), self.spec.num_candidates)
        items = pd.DataFrame({"id": np.arange(len(kind)), "clickbait": (kind + 0.5) / KINDS})
        items.to_csv(folder / "items.csv", index=False)

    def items(self, observation: Observation) -> NDArray[np.intp]:
        """Ids (B, N) of the candidates."""
        score = observation["candidates"][:, :, 0]
        kind = np.minimum((score * KINDS).astype(np.intp), KINDS - 1)
        same = kind[:, :, None] == kind[:, None, :]
        return kind * kind.shape[1] + np.tril(same, -1).sum(axis=2)

    def day(self, champion: Any | None, number: int) -> pd.DataFrame:
        """All steps of the sessions of a day."""
        policy: Policy = RandomPolicy(self.spec.slate_size)
        if champion is not None:
            policy = Served(self, champion, EPSILON, number)
        steps = play(batched_environment(self.spec, self.sessions), policy, 1000 + number)
        return pd.concat([self._rows(step, number) for step in steps], ignore_index=True)

    def _rows(self, step: Step, number: int) -> pd.DataFrame:
        offered = self.items(step.observation)
        return pd.DataFrame(
            {
                "session": number * self.sessions + step.lanes,
                "time": number * self.spec.horizon + step.observation["step"][:, 0],
                "satisfaction": step.observation["user"][:, 0],
                "offered": offered.tolist(),
                "shown": np.take_along_axis(offered, step.slates, axis=1)[:, 0],
                "propensity": step.propensities,
                "reward": step.rewards,
            }
        )

    def share(self, champion: Any, epsilon: float) -> float:
        """By play of users of whom none comes by day: random 0, the optimum 1."""
        random, optimum = self._bounds
        served = Served(self, champion, epsilon, 0)
        value = episode_returns(self.spec, served, PLAYED, PLAYED_SEED).mean()
        return float((value - random) / (optimum - random))

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        random = RandomPolicy(self.spec.slate_size)
        optimum = optimal_returns(self.spec, PLAYED, PLAYED_SEED)
        assert optimum is not None
        earned = episode_returns(self.spec, random, PLAYED, PLAYED_SEED)
        return float(earned.mean()), float(optimum.mean())


@dataclass
class Served:
    """The registry's model as a policy of the simulator, asked as consumers ask it."""

    customers: SatisfactionCustomers
    champion: Any
    epsilon: float
    seed: int
    asked: Iterator[int] = field(default_factory=count)

    def act(self, observation: Observation, rng: Any) -> tuple[NDArray[np.int32], Any]:
        """Slates and propensities of the answers."""
        del rng  # the model has its own
        frame = pd.DataFrame(
            {
                "user": observation["user"].tolist(),
                "items": self.customers.items(observation).tolist(),
                "step": observation["step"][:, 0].astype(np.int64),
            }
        )
        params = {"epsilon": self.epsilon, "seed": self.seed * 1_000_000 + next(self.asked)}
        answers = self.champion.predict(frame, params=params)
        return np.array(answers["slate"].tolist(), np.int32), answers["propensity"].to_numpy()
