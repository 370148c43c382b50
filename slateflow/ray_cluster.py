"""The Ray cluster at `RAY_ADDRESS`: this process's connection to it, and tasks that it maps.

A task whose machine dies is run again on another one, so it has to be one that can be: it leaves
whole files or none, and gives the same every time.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from slateflow.errors import refused

MAX_RETRIES = 10
"""Times that a task is run again whose machine died."""


def cluster_address() -> str | None:
    """Where the cluster is; None where everything runs on this machine. Imports no Ray."""
    return os.environ.get("RAY_ADDRESS") or None


@contextmanager
def connected(address: str, **options: Any) -> Iterator[None]:
    """Within the block this process belongs to the cluster; it may do so already.

    Args:
        address: That of a cluster, or `local` for one that starts and ends with the block.
        options: Of `ray.init`.

    Raises:
        InputError: There is no cluster at the address.
    """
    # Ray would start every worker like this process, `uv run` and all
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # sockets that Ray leaves open
        expected = f"RAY_ADDRESS: expected a Ray cluster at {address}"
        with refused(expected, OSError, ValueError, remedy="start it or unset the variable"):
            _check_reachable(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
        try:
            yield
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ask once: Ray would go on trying for minutes, and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def processors() -> int:
    """How many processors the cluster has now."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def map_tasks(function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Results of `function` for the arguments of each job, in the order of the jobs.

    They run at the same time, one on a processor. What a task raises is raised here.
    """
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(function)
    results = [task.remote(*job) for job in jobs]
    for result in results:
        try:
            yield ray.get(result)
        except RayTaskError as error:
            raise error.cause from None
