"""Functions that tests call in other processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from slateflow.errors import InputError
from slateflow.side_by_side import share_of_machine


def add(*numbers, progress):
    """The sum, and the process that computed it."""
    for done in range(len(numbers)):
        progress(done + 1, len(numbers))
    return sum(numbers), os.getpid()


def fail(kind, progress):
    """Raise an error: bad input, or one that cannot be unpickled."""
    if kind == "input":
        raise InputError("rows: expected some, got none")

    class LocalError(Exception):
        pass

    raise LocalError("it is of no module")


def die(progress):
    """Die as on a machine without memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(folder, progress):
    """Die as on a machine that goes down, in a cluster that retries."""
    mark = Path(folder, "died")
    if not mark.exists():
        mark.touch()
        die(progress)
    progress(1, 1)
    return "done"


def give(name, progress):
    """Return an object that cannot be pickled."""
    return threading.Lock()


def meet(folder, name, others, progress):
    """Wait until all others have arrived, too."""
    Path(folder, name).touch()
    while not all(Path(folder, other).exists() for other in others):
        time.sleep(0.01)
    return os.environ["OMP_NUM_THREADS"]


def stay(folder, progress):
    """Never return; clean up when ended."""
    try:
        Path(folder, "working").touch()
        progress(os.getpid(), 0)
        while True:
            time.sleep(0.01)
    finally:
        Path(folder, "working").unlink()


def share():
    """The process's share of the machine."""
    return share_of_machine()


prepared_by: int | None = None


def prepare():
    """Record the current process, which is the nursery."""
    global prepared_by
    prepared_by = os.getpid()


def fail_to_prepare():
    """Fail like a nursery without a package."""
    raise ImportError("no such package")


def told(progress):
    """The process that prepared this worker, and the worker's own."""
    return prepared_by, os.getpid()
