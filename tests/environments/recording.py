"""RecSim's draws, recorded and replayed in the batched simulators."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.environments import recsim_environment

EQUAL = {"rtol": 1e-12, "atol": 1e-14}  # NumPy's exp may differ in the last bit between CPUs


def variants(parameters: dict[str, dict]) -> list:
    """All sets of parameters with slates of 1 to 5, and changing or fixed candidates."""
    return [
        pytest.param(
            {**values, "resample_documents": resample, "slate_size": places},
            id=f"{name}-{'moving' if resample else 'fixed'}-{places}",
            marks=[pytest.mark.slow] if places in (2, 4) else [],
        )
        for name, values in parameters.items()
        for resample in (True, False)
        for places in (1, 2, 3, 4, 5)
    ]


class Recorder:
    """A legacy stream that records the elementary draws behind its values.

    A twin with the same seed makes the same calls in their elementary form: the legacy generator
    computes choices and uniforms from `random_sample`, normals from `standard_normal`.
    """

    def __init__(self, seed: int) -> None:
        self._values, self._twin = (np.random.RandomState(seed) for _ in range(2))
        self.uniforms: list[float] = []
        self.normals: list[float] = []
        self.integers: list[int] = []

    def choice(self, a, p):
        self._sample(1)
        return self._values.choice(a, p=p)

    def random_sample(self):
        """Uniforms rounded to float32, in which the batched simulator draws documents."""
        self._sample(1)
        self.uniforms[-1] = float(np.float32(self._values.random_sample()))
        return self.uniforms[-1]

    def rand(self, size):
        self._sample(size)
        return self._values.rand(size)

    def uniform(self, low, high, size):
        self._sample(size)
        return self._values.uniform(low, high, size)

    def lognormal(self, mean, sigma):
        self.normals += self._twin.standard_normal(np.size(mean)).tolist()
        return self._values.lognormal(mean, sigma)

    def normal(self, loc=0.0, scale=1.0):
        self.normals.append(self._twin.standard_normal())
        return self._values.normal(loc, scale)

    def randint(self, low, high):
        self.integers.append(self._values.randint(low, high))
        assert self._twin.randint(low, high) == self.integers[-1]
        return self.integers[-1]

    def _sample(self, size: int) -> None:
        self.uniforms += self._twin.random_sample(size).tolist()


class Recorded:
    """RecSim's environment with recorders as streams."""

    def __init__(self, spec, seed: int) -> None:
        self.spec = spec
        self.env = recsim_environment(spec)
        self.model = self.env._world.user_model
        self.users, self.documents, self.responses = (Recorder(3 * seed + i) for i in range(3))
        self.model._user_sampler._rng = self.users
        self.env._world._document_sampler._rng = self.documents
        self.env._responses = self.responses
        # Where the candidates stay, they are drawn through the recorder, too.
        self.env._world._do_resample_documents()

    @property
    def state(self):
        return self.model._user_state

    @property
    def offered(self) -> list:
        """RecSim's candidates, including their quality."""
        return self.env._world.candidate_set.get_all_documents()


class Player:
    """A substitute for a generator that returns the recorded draws.

    Args:
        uniforms: Called for the numbers of `random`.
        normals: Likewise for `standard_normal`.
        integers: Likewise for `integers`.
    """

    def __init__(self, uniforms=None, normals=None, integers=None) -> None:
        self._uniforms, self._normals, self._integers = uniforms, normals, integers

    def random(self, size, dtype=np.float64, lanes_last=False) -> np.ndarray:
        return np.reshape(self._uniforms(), size).astype(dtype)

    def standard_normal(self, size, lanes_last=False) -> np.ndarray:
        return np.reshape(self._normals(), size)

    def integers(self, low, high, size, dtype) -> np.ndarray:
        return np.reshape(self._integers(), size).astype(dtype)
