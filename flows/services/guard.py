"""The guard: a process that ends the services when `slateflow up` is killed.

It reads from a pipe of which only `up` has the other end. `up` writes the services' processes into
it; when the pipe ends without a farewell, `up` is dead, and the guard ends them. It shares the lock
of `up`'s folder, so the next `up` waits for it.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from flows.services.processes import Service, end_family

_FAREWELL = "farewell"


class Guard:
    """The guard as `up` sees it: its process, and the pipe to it."""

    def __init__(self, lock: IO[str]) -> None:
        """Start the guard; it holds the lock as long as it lives."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.services.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
            pass_fds=[lock.fileno()],
            text=True,
        )
        self._pipe = cast(IO[str], self.process.stdin)

    def watch(self, service: Service) -> None:
        """Report the process of a service that was started."""
        if service.process is not None:
            self._say(f"{service.name} {service.process.pid}")

    def dismiss(self) -> None:
        """End the guard; all services have ended."""
        self._say(_FAREWELL)
        with suppress(BrokenPipeError):
            self._pipe.close()
        self.process.wait()

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):  # the guard is dead
            self._pipe.write(line + "\n")
            self._pipe.flush()


def main() -> None:
    """Read until the pipe ends; then end the services, the youngest first."""
    processes: dict[str, int] = {}
    for line in sys.stdin:
        if line.strip() == _FAREWELL:
            return
        name, pid = line.split()
        processes[name] = int(pid)
    for pid in reversed(processes.values()):
        end_family(pid)


if __name__ == "__main__":
    main()
