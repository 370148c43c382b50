"""Freed memory stays with the process for the time of a block, and no longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from slateflow.trajectories.generation.allocator import keep_memory, kept_memory

def resident():  # MiB now, not at the peak
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    before = faults()
    arrays = [np.ones(3_000_000) for _ in range(8)]  # 24 MB each
    del arrays
    return faults() - before

start = resident()
with kept_memory():
    first, second, held = work(), work(), resident() - start
print(first, second, held, resident() - start)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, tests glibc")
def test_memory_is_used_again_and_given_back():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    first, second, held, left = map(float, done.stdout.split())
    assert second < first / 20
    assert held > 150
    assert left < 20
