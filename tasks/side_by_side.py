"""The processes in which a flow trains and plays, imported once for all of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from slateflow.learners import LEARNERS, import_rllib
from slateflow.ray_cluster import ClusterCalls, cluster_address, cluster_calls
from slateflow.side_by_side import PROCESSORS, Workers, workers

_SHARED: ContextVar[Workers | ClusterCalls | None] = ContextVar("shared", default=None)


@contextmanager
def side_by_side(learners: Sequence[str]) -> Iterator[None]:
    """Train these learners in processes within the block, at most one for each processor.

    The processes begin to import at once. With `RAY_ADDRESS` they are tasks of that cluster. A
    block within such a block shares its processes. When an inner block fails, it also ends the
    processes, because the threads of a failed flow wait for their calls.
    """
    if (shared := _SHARED.get()) is not None:
        try:
            yield
        except BaseException:
            shared.end()
            raise
        return
    address = cluster_address()
    on_rllib = any(LEARNERS[learner].on_rllib for learner in learners)
    count = min(len(learners), PROCESSORS)
    with (
        cluster_calls(address) if address else workers(count, import_rllib if on_rllib else None)
    ) as made:
        token = _SHARED.set(made)
        try:
            yield
        finally:
            _SHARED.reset(token)


def shared_workers() -> Workers | ClusterCalls:
    """Workers of the innermost `side_by_side`.

    Raises:
        LookupError: There is none.
    """
    shared = _SHARED.get()
    if shared is None:
        raise LookupError("expected to be called within side_by_side")
    return shared


def workers_at_hand() -> Workers | None:
    """Processes of this machine that wait for work, if there are any."""
    shared = _SHARED.get()
    return shared if isinstance(shared, Workers) else None
