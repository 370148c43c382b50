"""The guard alone, with processes that are quickly started."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from flows.services.processes import alive
from tests.up import kill, wait_until

ROOT = Path(__file__).parents[3]

# Stands for `up`: starts one service with a child in a session of its own, and tells both
OWNER = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from flows.services.guard import Guard
    from flows.services.processes import Service

    folder = Path(sys.argv[1])
    with (folder / "lock").open("w") as lock:
        guard = Guard(lock)
        code = (
            "import subprocess, sys, time\\n"
            "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\\n"
            "print(child.pid, flush=True)\\ntime.sleep(600)"
        )
        service = Service(
            "service", [sys.executable, "-c", code], lambda: True, folder / "log",
            dict(os.environ), folder,
        )
        service.start()
        guard.watch(service)
        while not (folder / "log").read_text().endswith("\\n"):
            time.sleep(0.05)
        child = (folder / "log").read_text().strip()
        print(guard.process.pid, service.process.pid, child, flush=True)
        sys.stdin.read()
        if sys.argv[2] == "farewell":
            guard.dismiss()
            print(service.process.poll(), flush=True)
            service.process.kill()
    """
)


def owner(folder: Path, farewell: str) -> tuple[subprocess.Popen[str], list[int]]:
    """The process that stands for `up`; the guard, the service and its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), farewell],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


def test_the_killed_owners_services_and_their_children_are_ended(tmp_path):
    process, family = owner(tmp_path, "none")
    assert all(alive(pid) for pid in family)
    with process:
        kill([process.pid])
    wait_until(lambda: not any(alive(pid) for pid in family), 20, "the end of all")


def test_the_owner_that_takes_its_leave_ends_them_itself(tmp_path):
    process, (guard, _, child) = owner(tmp_path, "farewell")
    with process:
        out, _ = process.communicate("", timeout=20)
    assert out == "None\n"  # the service went on after the guard was gone
    assert not alive(guard)
    os.kill(child, 9)
