"""Processes of machines by name: `host:pid`, and whether a process of this machine still runs."""

from __future__ import annotations

import os
import socket

import psutil

_CLOCK_SECONDS = 5.0  # the boot time, to which start times are relative, is not exact


def this_process() -> str:
    """Name of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def process_is_gone(infrastructure: str | None, entered: float) -> bool:
    """Whether it is a process of this machine that no longer runs.

    Args:
        infrastructure: `host:pid`, or `pid`.
        entered: When the run entered its state, in seconds since 1970; a process that began later
            is another that got the number.
    """
    if infrastructure is None:
        return False
    host, _, pid = infrastructure.rpartition(":")
    if host not in ("", socket.gethostname()) or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        ended = process.status() == psutil.STATUS_ZOMBIE
        return ended or process.create_time() > entered + _CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
