"""A policy exactly as good as random, where candidates have no order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import Observation
from tests.evaluation.off_policy.shop import BySlate


class FirstOnOffer(BySlate):
    """Shows the candidates in the order in which they are offered."""

    def __init__(self, slate_size: int) -> None:
        self.slate_size = slate_size

    def shown(self, observation: Observation) -> NDArray[np.intp]:
        """The first places, for each user."""
        return np.tile(np.arange(self.slate_size), (len(observation["candidates"]), 1))
