"""A world from outside the package: two items with a coin each; heads pay 1."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, World
from slateflow.environments.rules import first_feature
from slateflow.environments.simulator import BatchedEnvironment, Lanes, Response
from slateflow.validation import Numbers, validated


@validated
class CoinsSpec(EnvironmentSpec):
    """Probabilities of heads, and steps of a session."""

    world: ClassVar[str] = "coins"
    response_columns: ClassVar[tuple[str, ...]] = ()
    user_chooses: ClassVar[bool] = False

    heads: Numbers = (0.7, 0.4)
    steps: int = 3

    @property
    def user_size(self) -> int:
        return 0

    @property
    def document_size(self) -> int:
        return 2

    @property
    def horizon(self) -> int:
        return self.steps


class BatchedCoins(BatchedEnvironment[CoinsSpec]):
    _of_users = ()
    _of_documents = ("_candidates",)

    def _start_users(self, lanes: Lanes) -> None:
        pass

    def _draw_candidates(self) -> None:
        self._candidates = np.tile(np.eye(2, dtype=np.float32), (len(self.lanes), 1, 1))

    def _respond(self, slates: NDArray[Any]) -> Response:
        heads = np.array(self.environment_spec.heads)[slates[:, 0]]
        rewards = (self._responses.random(len(self.lanes)) < heads).astype(np.float64)
        over = self._steps == self.environment_spec.steps
        return rewards, over, {"clicked": np.zeros(len(self.lanes), np.int32)}

    def _observed_users(self) -> NDArray[np.float32]:
        return np.zeros((len(self.lanes), 0), np.float32)


WORLD = World(
    spec=CoinsSpec,
    presets=(CoinsSpec("coins", 2, 1),),
    simulator=BatchedCoins,
    rules=lambda spec: {"greedy": first_feature},
    labels={"greedy": "the first coin", "opposite": "the second coin"},
    optimum=lambda spec: spec.steps * max(spec.heads),
)
