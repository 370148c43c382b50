"""Services and their guard, with processes that start quickly."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.services import processes
from flows.services.processes import Service, alive, end_family, responds
from tests.servers import free_port
from tests.up import kill, wait_until

ROOT = Path(__file__).parents[3]

# A service with a child in a session of its own, which it names in its log
PARENT = textwrap.dedent(
    """
    import subprocess, time
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(600)
    """
)

# Stands for `up`: starts that service under a guard, and names them
OWNER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from flows.services.guard import Guard
    from tests.flows.services.test_guard import children, parent

    folder = Path(sys.argv[1])
    with (folder / "lock").open("w") as lock:
        service = parent(folder)
        guard = Guard([service], lock)
        service.start()
        (child,) = children(service, 1)
        print(guard.process.pid, service.process.pid, child, flush=True)
        sys.stdin.read()
    """
)


def parent(folder: Path, **options: object) -> Service:
    """A service that starts a child."""
    command = [sys.executable, "-c", PARENT]
    return Service("s", command, lambda: True, folder / "log", dict(os.environ), folder, **options)


def children(service: Service, number: int) -> list[int]:
    """The children named in the log, once there are enough."""
    wait_until(lambda: len(service.log.read_text().splitlines()) == number, 20, "a child")
    return [int(line) for line in service.log.read_text().splitlines()]


def stop(service: Service) -> None:
    """End the service and its family."""
    end_family(service.mark)
    service.process.wait()


@pytest.mark.parametrize("with_service", [False, True])
def test_the_killed_owners_services_and_their_children_are_ended(tmp_path, with_service):
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        family = [int(pid) for pid in process.stdout.readline().split()]
        assert all(alive(pid) for pid in family)
        # The child alone keeps the port of a server whose first process was killed, too
        kill([process.pid, *([family[1]] if with_service else [])])
    wait_until(lambda: not any(alive(pid) for pid in family), 20, "the end of all")


@pytest.mark.parametrize("survived", [False, True])
def test_what_a_killed_server_left_ends_before_it_starts_again(tmp_path, survived):
    service = parent(tmp_path, survived=survived)
    service.start()
    (left,) = children(service, 1)
    kill([service.process.pid])
    wait_until(lambda: service.ended, 20, "its end")
    assert alive(left)
    service.start()
    _, second = children(service, 2)
    assert alive(left) == survived  # runs go on without their worker
    stop(service)
    assert not any(alive(pid) for pid in (left, second, service.process.pid))


class Stranger(BaseHTTPRequestHandler):
    """A healthy server."""

    def do_GET(self) -> None:
        """Answer any request."""
        self.send_response(200 if self.headers["Authorization"] in (None, "Basic YTpi") else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_a_stranger_on_the_port_is_not_the_service(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{stranger.server_port}"
        assert responds(address)
        assert responds(address, "a:b")
        assert not responds(address, "a:c")
        service = parent(tmp_path, port=stranger.server_port)
        assert not service.ready
        service.start()
        children(service, 1)
        assert not service.ready
        stop(service)
        stranger.shutdown()
    port = free_port()
    listener = f"import http.server\nhttp.server.test(port={port}, bind='127.0.0.1')"
    service.command = [sys.executable, "-c", f"import os\nif os.fork():\n os.wait()\n{listener}"]
    service.port = port
    service.start()
    wait_until(lambda: service.ready, 20, "a child that listens")
    stop(service)


def test_a_long_log_begins_again_and_its_writer_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_LOG_BYTES", 1_000)
    code = "import sys\nfor line in sys.stdin:\n    print(line * 100, flush=True)"
    service = Service("s", [], lambda: True, tmp_path / "log", {}, tmp_path)
    with service.log.open("ab") as log:
        writer = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=log, text=True
        )
    with writer:
        for word, size in (("first", 601), ("second", 1302), ("third", 601)):
            writer.stdin.write(f"{word}\n")
            writer.stdin.flush()
            wait_until(lambda size=size: service.log.stat().st_size == size, 20, word)
            service.rotate_log()
    assert set(service.log.read_text().split()) == {"third"}
    assert set((tmp_path / "log.1").read_text().split()) == {"first", "second"}


def test_a_log_that_somebody_deletes_ends_nothing(tmp_path):
    service = Service("s", ["sleep", "600"], lambda: True, tmp_path / "log", {}, tmp_path)
    service.start()
    service.log.unlink()
    service.rotate_log()
    assert not service.ended
    stop(service)
    service.start()
    assert service.log.exists()
    stop(service)
