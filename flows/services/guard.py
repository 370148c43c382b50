"""The guard: a process that ends the services when `slateflow up` is killed.

It reads from a pipe of which only `up` has the other end. When the pipe ends, `up` is dead or has
ended everything; the guard ends what is left of the services, whenever it was started. It shares
the lock of `up`'s folder, so the next `up` waits for it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from flows.services.processes import Service, end_family


class Guard:
    """The guard as `up` sees it: its process, and the pipe to it."""

    def __init__(self, services: list[Service], lock: IO[str]) -> None:
        """Start the guard of these services; it holds the lock as long as it lives."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.services.guard", *(one.mark for one in services)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )

    def dismiss(self) -> None:
        """End the guard; it ends what is left of the services."""
        cast(IO[bytes], self.process.stdin).close()
        self.process.wait()


def main() -> None:
    """Wait for the end of the pipe; then end the services, the last first."""
    sys.stdin.read()
    for mark in reversed(sys.argv[1:]):
        end_family(mark)


if __name__ == "__main__":
    main()
