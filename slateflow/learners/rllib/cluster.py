"""A Ray cluster only for remote processes; otherwise everything runs in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slateflow.ray_cluster import cluster_address, connected


@contextmanager
def cluster(processes: int) -> Iterator[None]:
    """A Ray cluster for this many remote learners and samplers; none for 0.

    A cluster to which the caller is connected is used, then the one at `RAY_ADDRESS` if it is set.
    Otherwise a local cluster is started, and stopped at the end.
    """
    import ray

    if not processes and not ray.is_initialized():
        with _in_process():
            yield
        return
    address = cluster_address()
    own = {} if address else {"num_cpus": processes + 1, "include_dashboard": False}
    with connected(address or "local", **own):
        yield


@contextmanager
def _in_process() -> Iterator[None]:
    """Pass on objects that RLlib puts into the object store directly, without a cluster.

    RLlib's group of samplers puts objects there even where its only sampler is in this process, and
    Ray would start a cluster for them.
    """
    import ray

    put = ray.put
    ray.put = lambda value, **_: value
    try:
        yield
    finally:
        ray.put = put
