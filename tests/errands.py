"""Functions that tests have called in another process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from slateflow.errors import InputError
from slateflow.side_by_side import share_of_machine


def add(*numbers, progress):
    """Their sum, and the process that made it."""
    for done in range(len(numbers)):
        progress(done + 1, len(numbers))
    return sum(numbers), os.getpid()


def fail(kind, progress):
    """Raise an error: bad input, or one that pickle cannot make again."""
    if kind == "input":
        raise InputError("rows: expected some, got none")

    class LocalError(Exception):
        pass

    raise LocalError("it is of no module")


def die(progress):
    """End as on a machine without memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(folder, progress):
    """End as on a machine that goes down, in a cluster that tries again."""
    mark = Path(folder, "died")
    if not mark.exists():
        mark.touch()
        die(progress)
    progress(1, 1)
    return "done"


def give(name, progress):
    """Something that pickle cannot send."""
    return threading.Lock()


def meet(folder, name, others, progress):
    """Wait until all others have come, too."""
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
    """Share of the machine that the process has."""
    return share_of_machine()


prepared_by: int | None = None


def prepare():
    """Remember which process imported this: the nursery."""
    global prepared_by
    prepared_by = os.getpid()


def fail_to_prepare():
    """Fail as a nursery without a package does."""
    raise ImportError("no such package")


def told(progress):
    """Who prepared this worker, and which process it is."""
    return prepared_by, os.getpid()
