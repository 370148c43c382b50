"""Interrupted commands end with one line, and within seconds."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import psutil

MESSAGE = "slateflow: interrupted; the same command continues where it stopped"
INTERRUPTED = 130  # as shells call it
PATIENCE_SECONDS = 10.0
"""Time that a flow has for its farewell. Prefect tries for minutes to tell a server that is away
that the run has crashed."""


_told = threading.Event()


def interrupt(number: int, frame: object) -> NoReturn:
    """A handler of signals that ends the command."""
    _told.set()
    raise KeyboardInterrupt


def heed_signals() -> None:
    """Let signals to end interrupt the command, unless another handler has them."""
    _told.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, interrupt)


def was_interrupted(error: BaseException | None) -> bool:
    """Whether a signal to end is why the error was raised.

    Libraries turn an interruption into errors of their own. Prefect raises a signal of its own
    within a flow; the server that a run started may then be gone before Prefect reports to it.
    """
    if _told.is_set():
        return True
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "TerminationSignal":
            return True
        error = error.__cause__ or error.__context__
    return False


_said = threading.Event()


def say_interrupted() -> int:
    """Print the line once; the exit status."""
    # Prefect would complain that it cannot send its logs to a server that has ended
    logging.raiseExceptions = False
    if not _said.is_set():
        _said.set()
        print(MESSAGE, file=sys.stderr, flush=True)
    return INTERRUPTED


@contextmanager
def ended_when_told() -> Iterator[None]:
    """Within the block a signal ends the process after `PATIENCE_SECONDS`, whatever it waits for.

    The interpreter writes the number of every signal to a pipe, whoever handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    _said.clear()
    interrupted = False
    try:
        yield
    except BaseException as error:
        interrupted = was_interrupted(error)
        raise
    finally:
        if not interrupted:  # else the watch lasts until the process has ended
            signal.set_wakeup_fd(before)
            os.close(writer)


def _watch(reader: int) -> None:
    """Wait for a signal to end, or for the end of the pipe."""
    while number := os.read(reader, 1):
        if number[0] in (signal.SIGINT, signal.SIGTERM):
            logging.raiseExceptions = False
            time.sleep(PATIENCE_SECONDS)
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.terminate()  # Prefect's own server, and workers
            os._exit(say_interrupted())
    os.close(reader)
