"""Processes of this machine that work for this process, one call at a time, with progress reports.

Workers are forked from a fresh interpreter, the nursery: its imports serve all of them (Ray takes
seconds), and changes by one worker do not affect others. The nursery has one thread for linear
algebra, so results do not depend on the number of workers, and workers do not take each other's
processors. It ends with this process, however that ends. Importing this module imports nothing
heavy.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from typing import Any

from slateflow.errors import InputError
from slateflow.progress import Progress

PROCESSORS = os.cpu_count() or 1
"""Default number of calls that run at the same time."""

FAREWELL_SECONDS = 5.0
"""Time to clean up for a worker, or a cluster's task, that is ended in the middle of a call."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

WORKERS = "SLATEFLOW_WORKERS"
"""Environment variable of a worker: the number of workers that share the machine."""


def share_of_machine() -> float:
    """This process's share of the memory: less than 1 where it is one of several workers."""
    return 1 / int(os.environ.get(WORKERS, "1"))


class WorkerDiedError(RuntimeError):
    """A worker ended in the middle of a call: it was killed, or crashed."""


class CallEndedError(BaseException):
    """A call was ended, because the block with its workers was left; as grave as Ctrl-C."""


@dataclass
class Workers:
    """Up to `count` workers; one is started when no other is free, and serves until the end.

    Attributes:
        count: Most workers that are busy at the same time, 1 or more.
        imports: A module-level function, called once for all workers, in parallel with this
            process. It imports what they need; if a module is missing, the call that needs it
            raises the error again.
    """

    count: int
    imports: Callable[[], None] | None = None
    _nursery: Nursery = field(init=False)
    _free: queue.LifoQueue[Worker | None] = field(default_factory=queue.LifoQueue, init=False)
    _started: list[Worker] = field(default_factory=list, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        self._nursery = Nursery.start(self.count, self.imports)
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
                worker = self._nursery.fork()
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
            if worker is not None and worker.busy:  # unfit for the next call
                worker.send(None)
                worker = None
            self._free.put(worker)

    def map(
        self,
        function: Callable[..., Any],
        jobs: Sequence[tuple[Any, ...]],
        begin: Callable[..., Progress] | None = None,
    ) -> Iterator[Any]:
        """Results of `function` for the arguments of each job, in the order of the jobs.

        Args:
            function: A module-level function; it is pickled, with its arguments and result.
            jobs: Arguments of the calls.
            begin: Called with a job's arguments when it begins; returns the call's `progress`.

        Raises:
            WorkerDiedError: A process ended in the middle.
            Exception: Raised by the function.
        """

        def call(job: tuple[Any, ...]) -> Any:
            with self.free() as worker:
                return worker.call(function, *job, progress=begin and begin(*job))

        with ThreadPoolExecutor(self.count) as threads:
            try:
                yield from threads.map(call, jobs)
            except Exception:
                threads.shutdown(cancel_futures=True)
                raise
            except BaseException:
                self.end()  # unfinished calls are abandoned
                raise

    def end(self) -> None:
        """End all workers, even in the middle of their calls."""
        self._ended.set()
        for worker in self._started:
            worker.send(None)
        for worker in self._started:
            worker.wait()
        self._nursery.end()


@contextmanager
def workers(count: int, imports: Callable[[], None] | None = None) -> Iterator[Workers]:
    """Start `count` workers for the block, which all end with it."""
    made = Workers(count, imports)
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
    """`Workers.map` with at most `count` workers, which end with it.

    `map_tasks` is the counterpart for a cluster.
    """
    with workers(min(count, len(jobs))) as made:
        yield from made.map(function, jobs, begin)


@dataclass
class Nursery:
    """A process that imports and then only forks; it has no threads whose locks a fork would keep.

    Only this process can read the exit status of its children.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    _asking: threading.Lock = field(default_factory=threading.Lock, init=False)

    @classmethod
    def start(cls, workers: int, imports: Callable[[], None] | None) -> Nursery:
        """Start a new interpreter, for this many workers."""
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches only this process, which ends its workers
                env={
                    **_ONE_THREAD,
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    WORKERS: str(workers),
                },
            )
        nursery = cls(process, ours)
        with suppress(OSError):  # `fork` raises if the nursery has ended
            ours.send_bytes(pickle.dumps(imports))
        return nursery

    def fork(self) -> Worker:
        """A new worker, which waits for calls; the first waits for the imports.

        Raises:
            WorkerDiedError: The nursery has ended.
        """
        ours, theirs = Pipe()
        with theirs, self._asking:
            try:
                self.connection.send(None)
                reduction.send_handle(self.connection, theirs.fileno(), self.process.pid)
                pid = self.connection.recv()
            except (EOFError, OSError):
                raise WorkerDiedError(
                    "expected a process from which others start, it has ended; was it killed, or "
                    "memory short?"
                ) from None
        return Worker(pid, ours, self)

    def status(self, pid: int, seconds: float) -> int | None:
        """Exit status of a worker, negative for a signal; None if it still runs after `seconds`."""
        with self._asking, suppress(EOFError, OSError):
            self.connection.send((pid, seconds))
            status: int | None = self.connection.recv()
            return status
        return None

    def end(self) -> None:
        """End the nursery; workers that have not ended do so by themselves."""
        self.process.kill()  # it may still be importing, with a caller waiting
        self.process.wait()
        with self._asking:
            self.connection.close()


@dataclass
class Worker:
    """The handle of a worker in the process for which it works.

    Attributes:
        busy: Whether a call is running, or was abandoned before its answer.
    """

    pid: int
    connection: Connection
    nursery: Nursery
    status: int | None = None
    busy: bool = field(default=False, init=False)
    _sending: threading.Lock = field(default_factory=threading.Lock, init=False)

    def call(
        self, function: Callable[..., Any], *arguments: Any, progress: Progress | None = None
    ) -> Any:
        """The result of `function(*arguments)` in the worker.

        Args:
            function: A module-level function; it is pickled, with its arguments and result.
            arguments: Arguments of the function.
            progress: Called here whenever the function calls its argument `progress` in the worker;
                if None, the function gets no such argument.

        Raises:
            WorkerDiedError: The worker ended in the middle.
            Exception: Raised by the function.
        """
        self.send((function, arguments, progress is not None))
        self.busy = True
        while True:
            kind, content = self._received()
            self.busy = kind not in ("result", "error")
            if kind == "result":
                return content
            if kind == "error":
                raise content
            assert progress is not None
            progress(*content)

    def send(self, message: tuple[Any, ...] | None) -> None:
        """Send a call, or None to end; a dead worker is noticed when it should answer."""
        pickled = pickle.dumps(message)
        with self._sending, suppress(OSError):
            self.connection.send_bytes(pickled)

    def _received(self) -> tuple[str, Any]:
        """Kind and content of the next message."""
        try:
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDiedError(
                f"expected a process to end its work, got status {self.wait()} in the "
                "middle of it; was it killed, or memory short?"
            ) from None
        kind, content = pickle.loads(answer)
        return kind, content

    def wait(self) -> int | None:
        """Exit status of the process once it has ended; it is killed if that takes too long."""
        if self.status is None:
            self.status = self.nursery.status(self.pid, FAREWELL_SECONDS + 1)
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.status = self.nursery.status(self.pid, FAREWELL_SECONDS)
        return self.status


def _nurse(connection: Connection) -> None:
    """Import, then fork and wait for children on request, until the parent has ended."""
    imports = pickle.loads(connection.recv_bytes())
    with suppress(Exception):
        imports and imports()
    gc.freeze()  # unwritten pages are shared
    # Python 3.12 and later also count threads of libraries: those of jemalloc and BLAS, both of
    # which are prepared for a fork. There are no threads of Python's own.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    with suppress(EOFError, OSError):
        while True:
            about = connection.recv()
            if about is not None:
                connection.send(_status(*about))
                continue
            handle = reduction.recv_handle(connection)
            if not (pid := os.fork()):
                connection.close()
                _serve(Connection(handle))
                os._exit(0)  # an interpreter with Ray takes seconds to shut down
            os.close(handle)
            connection.send(pid)


def _status(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)


_END = pickle.dumps(None)


def _serve(connection: Connection) -> None:
    """Answer calls until the parent has ended, or ends this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have ignored it
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with suppress(KeyboardInterrupt, BrokenPipeError):
        threading.Thread(target=_listen, args=(connection, calls), daemon=True).start()
        while True:
            connection.send_bytes(_answer(calls.get(), connection))


def _listen(connection: Connection, calls: queue.SimpleQueue[bytes]) -> None:
    """Pass on calls; the order to end, or the parent's end, interrupts the running call."""
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
        with suppress(Exception):  # errors that pickle cannot restore
            pickle.loads(answer := pickle.dumps(("error", error)))
            return answer
        return pickle.dumps(("error", RuntimeError("".join(error.__notes__))))


if __name__ == "__main__":
    _nurse(Connection(int(sys.argv[1])))
