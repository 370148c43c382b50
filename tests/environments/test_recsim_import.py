"""Importing RecSim is quiet and leaves no other traces."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from slateflow.environments.recsim_import import drawing_from, load_recsim

PROBE = """
import sys
import types
if {fake}:
    sys.modules["gym"] = types.ModuleType("gym")
    mine = sys.modules["gym"]
from slateflow.environments.gym.config import make_recsim
assert not [name for name in sys.modules if name.split(".")[0] == "recsim"]
env = make_recsim({{"seed": 0}})
env.reset()
env.step([0, 1])
assert "recsim.environments.long_term_satisfaction" in sys.modules
foreign = {{"tensorflow", "dopamine", "jax", "torch", "ray"}}
left = [name for name in sys.modules if name.split(".")[0] in foreign]
left += [name for name in ("gin.tf", "recsim.simulator.runner_lib") if name in sys.modules]
left += [name for name in sys.modules if name.startswith("recsim.agents")]
if {fake}:
    assert sys.modules["gym"] is mine
else:
    left += [name for name in sys.modules if name.split(".")[0] == "gym"]
assert not left, left
"""


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.integration
def test_import_is_silent_and_leaves_no_stand_ins():
    run(PROBE.format(fake=False))


@pytest.mark.integration
def test_a_module_that_was_there_stays():
    run(PROBE.format(fake=True))


def test_recsim_draws_from_the_stream_of_its_thread():
    lts = load_recsim().long_term_satisfaction
    draws = {}

    def draw(seed: int) -> None:
        with drawing_from(np.random.RandomState(seed)):
            barrier.wait()
            draws[seed] = [lts.np.random.normal() for _ in range(3)]
            barrier.wait()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=draw, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        assert draws[seed] == np.random.RandomState(seed).normal(size=3).tolist()


def test_outside_of_our_environments_recsim_sees_numpy_as_it_is():
    lts = load_recsim().long_term_satisfaction
    with drawing_from(np.random.RandomState(0)):
        assert lts.np.random is not np.random
    assert lts.np.random is np.random
    assert lts.np.exp is np.exp
