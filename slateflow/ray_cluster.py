"""The Ray cluster at `RAY_ADDRESS`: this process's connection to it, and tasks that it runs.

A task whose machine or process dies is run again, so it has to be repeatable: it leaves whole files
or none, and gives the same result every time.
"""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from slateflow.errors import refused
from slateflow.progress import Progress
from slateflow.side_by_side import FAREWELL_SECONDS, WORKERS, CallEndedError, WorkerDiedError

MAX_RETRIES = 10
"""Number of times that a task is run again if its machine dies."""

ASKING_SECONDS = 0.3
"""Time between two requests for a task's progress."""


def cluster_address() -> str | None:
    """Address of the cluster; None where everything runs on this machine. Does not import Ray."""
    return os.environ.get("RAY_ADDRESS") or None


@contextmanager
def connected(address: str, **options: Any) -> Iterator[None]:
    """Connect this process to the cluster for the block, unless it already is connected.

    Args:
        address: Address of a cluster, or `local` for one that starts and ends with the block.
        options: Options of `ray.init`.

    Raises:
        InputError: There is no cluster at the address.
    """
    # Ray would start every worker like this process, including `uv run`
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
    """Try once: Ray would retry for minutes, and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def processors() -> int:
    """Number of processors that the cluster has now."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def map_tasks(function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Results of `function` for the arguments of each job, in the order of the jobs.

    Tasks run in parallel, one per processor. Errors of a task are raised here.
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


@dataclass
class ClusterCalls:
    """Calls that each occupy a processor of a cluster, as `side_by_side.Workers` on a machine."""

    _running: int = field(default=0, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)
    _board: Any = field(init=False)

    def __post_init__(self) -> None:
        import ray

        self._board = ray.remote(num_cpus=0)(_Board).remote()

    @contextmanager
    def free(self) -> Iterator[ClusterCalls]:
        """This object: a task waits in the cluster until a processor is free.

        Raises:
            CallEndedError: The calls were ended, before or within the block.
        """
        with self._changed:
            if self._ended.is_set():
                raise CallEndedError
            self._running += 1
        try:
            yield self
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def call(
        self, function: Callable[..., Any], *arguments: Any, progress: Progress | None = None
    ) -> Any:
        """The result of `function(*arguments)` in the cluster; see `Worker.call`."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_watched)
        board = None if progress is None else self._board
        key = os.urandom(8)
        result, known = task.remote(board, key, function, arguments), None
        try:
            while not ray.wait([result], timeout=ASKING_SECONDS)[0]:
                if self._ended.is_set():
                    ray.cancel(result)
                    ray.wait([result], timeout=FAREWELL_SECONDS)  # the task cleans up
                    raise CallEndedError
                known = self._report(key, progress, known)
            answer = ray.get(result)
            self._report(key, progress, known)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise WorkerDiedError(
                f"expected a task of the cluster to end its work, got {type(error).__name__} in "
                "the middle of it; was its machine lost, or memory short?"
            ) from None
        return answer

    def _report(self, key: bytes, progress: Progress | None, known: Any) -> Any:
        """Pass on the last message of a task, unless it is already known."""
        import ray

        if progress is None:
            return None
        said = ray.get(self._board.last.remote(key))
        if said is not None and said != known:
            progress(*said)
        return said

    def end(self) -> None:
        """End the calls, even in the middle of their work."""
        self._ended.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._running, FAREWELL_SECONDS + 1)


@contextmanager
def cluster_calls(address: str) -> Iterator[ClusterCalls]:
    """Calls in the cluster at the address for the block; all end with it."""
    with connected(address):
        made = ClusterCalls()
        try:
            yield made
        finally:
            made.end()


class _Board:
    """An actor with the last reported progress of the tasks."""

    def __init__(self) -> None:
        self._said: dict[bytes, tuple[int, int]] = {}

    def say(self, key: bytes, done: int, total: int) -> None:
        """Keep the last message of a task."""
        self._said[key] = done, total

    def last(self, key: bytes) -> tuple[int, int] | None:
        """The last message of a task."""
        return self._said.get(key)


def _watched(
    board: Any, key: bytes, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """Call the function in the cluster; its progress goes to the board."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    (of_node,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    os.environ[WORKERS] = str(max(1, int(of_node.get("CPU", 1))))
    if board is None:
        return function(*arguments)
    said: list[Any] = []

    def progress(done: int, total: int) -> None:
        said[:] = [board.say.remote(key, done, total)]

    answer = function(*arguments, progress=progress)
    ray.get(said)  # before it is asked for
    return answer
