"""RecSim's users as customers: sessions of many steps, in which the best choice pays only later."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.environments import BatchedEnvironment, Observation
from slateflow.evaluation.returns import optimal_returns
from slateflow.policies import RandomPolicy
from slateflow.policies.play import Step
from tests.flows.world_customers import PLAYED, PLAYED_SEED, WorldCustomers

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


@dataclass
class SatisfactionCustomers(WorldCustomers):
    """Modified long-term satisfaction, slates of 1; kinds are clickbait scores in steps of .005."""

    parameters: dict[str, Any] = field(default_factory=dict)
    name: str = "modified-lts-10-1"
    recipe: str = RECIPE

    def open(self, folder: Path) -> None:
        """Write the catalogue."""
        kind = np.repeat(np.arange(KINDS), self.spec.num_candidates)
        items = pd.DataFrame({"id": np.arange(len(kind)), "clickbait": (kind + 0.5) / KINDS})
        items.to_csv(folder / "items.csv", index=False)

    def kinds(self, observation: Observation) -> NDArray[np.intp]:
        """Scores (B, N)."""
        score = observation["candidates"][:, :, 0]
        return np.minimum((score * KINDS).astype(np.intp), KINDS - 1)

    def users(self, observation: Observation, env: BatchedEnvironment[Any]) -> dict[str, Any]:
        """The users' satisfaction."""
        return {"satisfaction": observation["user"][:, 0].tolist()}

    def shown(self, step: Step, slates: NDArray[np.intp]) -> dict[str, Any]:
        """The only shown item."""
        return {"shown": slates[:, 0]}

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Values of random and of the optimum."""
        optimum = optimal_returns(self.spec, PLAYED, PLAYED_SEED)
        assert optimum is not None
        return self.played(RandomPolicy(self.spec.slate_size)), float(optimum.mean())
