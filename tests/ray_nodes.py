"""Ray clusters of several nodes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def ray_nodes(count: int, **of_head: Any) -> Iterator[Any]:
    """Nodes with a processor and a raylet each, and RAY_ADDRESS set.

    Args:
        count: Number of nodes.
        of_head: Further settings of the first node.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        nodes = Cluster()
        nodes.add_node(num_cpus=1, include_dashboard=False, **of_head)
        for _ in range(1, count):
            nodes.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", nodes.address)
        try:
            yield nodes
        finally:
            nodes.shutdown()
