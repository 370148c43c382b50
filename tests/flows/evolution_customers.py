"""RecSim's users as customers: they choose from slates, and stay while they watch good videos."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slateflow.environments import BatchedEnvironment, Observation
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.policies.play import Step
from slateflow.trajectories import Folder, Recipe, generate
from tests.flows.world_customers import WorldCustomers

RECIPE = """
source = "logs/*.parquet"
[columns]
episode = "session"
time = "time"
user = ["interests", "minutes"]
candidates = "offered"
item = "shown"
propensity = "propensity"
clicked = "clicked"
reward = "reward"
[items]
file = "items.csv"
id = "id"
features = ["cluster"]
"""


@dataclass
class EvolutionCustomers(WorldCustomers):
    """Interest evolution with a few clusters as kinds; sessions end with the time budget."""

    parameters: dict[str, Any] = field(default_factory=lambda: {"num_features": 10})
    name: str = "interest-evolution"
    recipe: str = RECIPE

    def open(self, folder: Path) -> None:
        """Write the catalogue."""
        kind = np.repeat(np.arange(self.spec.document_size), self.spec.num_candidates)
        clusters = [f"c{one}" for one in kind]
        items = pd.DataFrame({"id": np.arange(len(kind)), "cluster": clusters})
        items.to_csv(folder / "items.csv", index=False)

    def kinds(self, observation: Observation) -> NDArray[np.intp]:
        """Clusters (B, N)."""
        return observation["candidates"].argmax(axis=2)

    def users(self, observation: Observation, env: BatchedEnvironment[Any]) -> dict[str, Any]:
        """The users' interests, as one column, and their remaining minutes."""
        interests = observation["user"].astype(np.float64)
        return {"interests": interests.tolist(), "minutes": env._budget.tolist()}

    def shown(self, step: Step, slates: NDArray[np.intp]) -> dict[str, Any]:
        """The slate, and the click."""
        return {"shown": slates.tolist(), "clicked": step.responses["clicked"]}

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Random, and `slateq` with the world's own logs."""
        policies = {"random": 1.0}
        recipe = Recipe("best", self.name, 2_000, 1, policies, parameters=self.parameters)
        with tempfile.TemporaryDirectory() as folder:
            scorer, _ = train(generate(recipe, Folder(folder)), learner_config("slateq"))
        random = RandomPolicy(self.spec.slate_size)
        return self.played(random), self.played(ScoringPolicy(scorer))
