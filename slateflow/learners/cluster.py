"""Ray only where processes of its own are asked for; elsewhere everything stays in this one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cluster(processes: int) -> Iterator[None]:
    """A Ray cluster for that many remote learners and samplers; none for 0.

    The cluster at `RAY_ADDRESS` serves where it is set, and one that the caller has connected to
    in any case. Else a local one is started, and stopped again.
    """
    import ray

    if not processes and not ray.is_initialized():
        with _in_process():
            yield
        return
    if ray.is_initialized():
        yield
        return
    # Ray would start every worker like this process, `uv run` and all
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"num_cpus": processes + 1, "include_dashboard": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # sockets that Ray leaves open
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _in_process() -> Iterator[None]:
    """Without a cluster, what RLlib puts into the object store is handed on as it is.

    RLlib's group of samplers does so even where its only sampler is in this process, and Ray
    would start a cluster for it.
    """
    import ray

    put = ray.put
    ray.put = lambda value, **_: value
    try:
        yield
    finally:
        ray.put = put
