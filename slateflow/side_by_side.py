"""Processes of this machine that work for this one, a call at a time, and say how far they are.

A worker is a fresh interpreter: what it imports it imports once (Ray takes seconds), and what it
changes is its own. It has one thread for linear algebra, so results do not depend on the number of
workers, and workers do not take each other's processors. It ends with its parent, however that
ends. Importing this module imports nothing heavy.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from slateflow.errors import InputError
from slateflow.progress import Progress

PROCESSORS = os.cpu_count() or 1
"""Calls that run at the same time, where nobody says how many."""

FAREWELL_SECONDS = 5.0
"""Time to clean up for a worker, or a task of a cluster, that is ended in the middle of a call."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

WORKERS = "SLATEFLOW_WORKERS"
"""Variable of a worker's environment: how many share the machine."""


def share_of_machine() -> float:
    """Share of the memory that is this process's: a part where it is one of several workers."""
    return 1 / int(os.environ.get(WORKERS, "1"))


class WorkerDiedError(RuntimeError):
    """A worker ended in the middle of a call: it was killed, or crashed."""


class CallEndedError(BaseException):
    """A call was ended, because the block with its workers was left; as grave as Ctrl-C."""


@dataclass
class Workers:
    """Up to `count` workers; one is started when no other is free, and serves until the end.

    Attributes:
        count: Workers that are busy at the same time, 1 or more.
    """

    count: int
    _free: queue.LifoQueue[Worker | None] = field(default_factory=queue.LifoQueue, init=False)
    _started: list[Worker] = field(default_factory=list, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        for _ in range(self.count):
            self._free.put(None)

    @contextmanager
    def free(self) -> Iterator[Worker]:
        """A worker for the block, as soon as one is free.

        Raises:
            CallEndedError: All workers were ended, before or within the block.
        """
        worker = self._free.get()
        try:
            if self._ended.is_set():
                raise CallEndedError
            if worker is None:
                worker = Worker.start(self.count)
                self._started.append(worker)
                if self._ended.is_set():  # meanwhile
                    worker.send(None)
            yield worker
        except WorkerDiedError:
            worker = None  # the next one gets another
            if self._ended.is_set():
                raise CallEndedError from None
            raise
        finally:
            self._free.put(worker)

    def end(self) -> None:
        """End all workers, in the middle of their calls or not."""
        self._ended.set()
        for worker in self._started:
            worker.send(None)
        for worker in self._started:
            worker.wait()


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    """So many workers for the block, which all end with it."""
    made = Workers(count)
    try:
        yield made
    finally:
        made.end()


def map_calls(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    count: int = PROCESSORS,
    begin: Callable[..., Progress] | None = None,
) -> Iterator[Any]:
    """Results of `function` for the arguments of each job, in the order of the jobs.

    So many processes of this machine work at the same time; `map_tasks` is that of a cluster.

    Args:
        function: A function of a module; with its arguments and result it is pickled.
        jobs: Its arguments.
        count: Processes, at most.
        begin: Called with a job's arguments when that begins; gives the function's `progress`.

    Raises:
        WorkerDiedError: A process ended in the middle.
        Exception: Raised by the function.
    """
    count = min(count, len(jobs))
    # Threads end after the workers that they wait for
    with ThreadPoolExecutor(count) as threads, workers(count) as made:

        def call(job: tuple[Any, ...]) -> Any:
            with made.free() as worker:
                return worker.call(function, *job, progress=begin and begin(*job))

        yield from threads.map(call, jobs)


@dataclass
class Worker:
    """A worker as its parent sees it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    _sending: threading.Lock = field(default_factory=threading.Lock, init=False)

    @classmethod
    def start(cls, workers: int) -> Worker:
        """A new process, one of so many, which waits for calls."""
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent, which ends its workers
                env={
                    **_ONE_THREAD,
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    WORKERS: str(workers),
                },
            )
        return cls(process, ours)

    def call(
        self, function: Callable[..., Any], *arguments: Any, progress: Progress | None = None
    ) -> Any:
        """Return what `function(*arguments)` returns in the worker.

        Args:
            function: A function of a module; with its arguments and result it is pickled.
            arguments: Its arguments.
            progress: Called here with what the function calls its argument `progress` with there;
                without one it has no such argument.

        Raises:
            WorkerDiedError: The worker ended in the middle.
            Exception: Raised by the function.
        """
        self.send((function, arguments, progress is not None))
        while True:
            kind, content = self._received()
            if kind == "result":
                return content
            if kind == "error":
                raise content
            assert progress is not None
            progress(*content)

    def send(self, message: tuple[Any, ...] | None) -> None:
        """Send a call, or the order to end; one that is gone is noticed when it should answer."""
        pickled = pickle.dumps(message)
        with self._sending, suppress(OSError):
            self.connection.send_bytes(pickled)

    def _received(self) -> tuple[str, Any]:
        """Kind and content of the next message."""
        try:
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            self.wait()
            raise WorkerDiedError(
                f"expected a process to end its work, got status {self.process.returncode} in the "
                "middle of it; was it killed, or memory short?"
            ) from None
        kind, content = pickle.loads(answer)
        return kind, content

    def wait(self) -> None:
        """Wait until it has ended; it is killed where that takes longer than its farewell."""
        try:
            self.process.wait(FAREWELL_SECONDS + 1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_END = pickle.dumps(None)


def _serve(connection: Connection) -> None:
    """Answer calls until the parent has ended, or ends this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have ignored it
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, calls), daemon=True).start()
    with suppress(KeyboardInterrupt, BrokenPipeError):
        while True:
            connection.send_bytes(_answer(calls.get(), connection))


def _listen(connection: Connection, calls: queue.SimpleQueue[bytes]) -> None:
    """Hand on calls; the order to end, or the parent's end, interrupts what is under way."""
    with suppress(EOFError, OSError):
        while (call := connection.recv_bytes()) != _END:
            calls.put(call)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(FAREWELL_SECONDS)
    os._exit(1)


def _answer(call: bytes, connection: Connection) -> bytes:
    """Result or error of a call, pickled."""

    def progress(done: int, total: int) -> None:
        connection.send_bytes(pickle.dumps(("progress", (done, total))))

    try:
        function, arguments, watched = pickle.loads(call)
        named = {"progress": progress} if watched else {}
        return pickle.dumps(("result", function(*arguments, **named)))
    except Exception as error:
        if not isinstance(error, InputError):
            error.add_note("".join(traceback.format_exception(error)))
        with suppress(Exception):  # errors that pickle cannot make again
            pickle.loads(answer := pickle.dumps(("error", error)))
            return answer
        return pickle.dumps(("error", RuntimeError("".join(error.__notes__))))


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
    os._exit(0)  # an interpreter with Ray takes seconds to take itself apart
