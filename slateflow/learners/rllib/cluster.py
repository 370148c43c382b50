"""Ray only where processes of its own are asked for; elsewhere everything stays in this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slateflow.ray_cluster import cluster_address, connected


@contextmanager
def cluster(processes: int) -> Iterator[None]:
    """A Ray cluster for that many remote learners and samplers; none for 0.

    The cluster at `RAY_ADDRESS` serves where it is set, and one that the caller has connected to
    in any case. Otherwise a local one is started, and stopped at the end.
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
    """Without a cluster, objects that RLlib puts into the object store are handed on as they are.

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
