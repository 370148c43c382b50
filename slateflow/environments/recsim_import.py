"""RecSim's modules without TensorFlow, dopamine, gym and NumPy's global generator.

RecSim imports TensorFlow and dopamine for its own agents, and gym for its spaces. Simulation needs
none of them, none is installed, and Gymnasium has the same spaces. RecSim's user models draw from
`np.random`, one generator for a whole process; here every environment lends them its own.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np

_MODULES = (
    "recsim.environments.long_term_satisfaction",
    "recsim.environments.interest_evolution",
    "recsim.environments.interest_exploration",
    "recsim.choice_model",
    "recsim.simulator.environment",
)
_STAND_INS = (
    "gin.tf",
    "recsim.simulator.runner_lib",
    "recsim.agents.full_slate_q_agent",
    "recsim.agents.slate_decomp_q_agent",
)
_LOCK = threading.Lock()
_stream: ContextVar[np.random.RandomState] = ContextVar("recsim_random")


def load_recsim() -> SimpleNamespace:
    """RecSim's modules; the stubs of its dependencies are removed again."""
    with _LOCK:
        return _load()


@contextmanager
def drawing_from(stream: np.random.RandomState) -> Iterator[None]:
    """Let RecSim draw from `stream` instead of `np.random`, in this thread or task only."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


@cache
def _load() -> SimpleNamespace:
    stand_ins = {name: ModuleType(name) for name in _STAND_INS} | {"gym": gymnasium}
    replaced = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        modules = {path.rpartition(".")[2]: importlib.import_module(path) for path in _MODULES}
    finally:
        # Other libraries look here to find out what is installed.
        for name, module in replaced.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    for module in modules.values():
        vars(module)["np"] = _NumPy()
    return SimpleNamespace(**modules)


class _NumPy:
    """NumPy as RecSim's module sees it."""

    def __getattr__(self, name: str) -> Any:
        if name == "random":
            # Outside our environments RecSim draws from the global generator, as it always did.
            return _stream.get(np.random)
        return getattr(np, name)
