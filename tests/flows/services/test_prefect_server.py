"""Prefect's server in commands and `slateflow up`: busy databases, and the temporary one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import suppress

import psutil

from flows.services.prefect_server import ATTEMPTS, AskedAgain, StartedAlone
from tests.servers import BIN
from tests.up import wait_until

SCOPE = {"type": "http", "path": "/runs"}


class Busy:
    """An application with a busy database for some requests; it answers with their bodies.

    Like Starlette's, it raises the errors with which it answered.
    """

    def __init__(self, times: int) -> None:
        self.times, self.asked = times, 0

    async def __call__(self, scope, receive, send):
        self.asked += 1
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        status = 503 if self.asked <= self.times else 201
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})
        if status == 503:
            raise OSError("database is locked")


def answer(app):
    """Status and body of a request in two pieces."""
    pieces = [
        {"type": "http.request", "body": b"a run", "more_body": True},
        {"type": "http.request", "body": b" begins"},
    ]
    sent = []

    async def receive():
        return pieces.pop(0)

    async def send(message):
        sent.append(message)

    with suppress(OSError):  # of the last answer
        asyncio.run(AskedAgain(app)(SCOPE, receive, send))
    start, *bodies = sent
    return start["status"], b"".join(body["body"] for body in bodies)


def test_a_busy_database_is_asked_again_with_the_same_request():
    app = Busy(3)
    assert answer(app) == (201, b"a run begins")
    assert app.asked == 4


def test_one_that_stays_busy_is_told(monkeypatch):
    monkeypatch.setattr("flows.services.prefect_server.PAUSE_SECONDS", 0)
    app = Busy(ATTEMPTS)
    assert answer(app) == (503, b"a run begins")
    assert app.asked == ATTEMPTS


def test_servers_of_one_home_start_one_after_the_other(tmp_path):
    """Each makes or alters the tables; then all run at once."""
    events, all_run = [], threading.Barrier(3)

    async def app(scope, receive, send):
        events.append("starts")
        await asyncio.sleep(0.1)
        events.append("started")
        await send({"type": "lifespan.startup.complete"})
        await asyncio.to_thread(all_run.wait, 60)

    async def send(message):
        pass

    def serve():
        asyncio.run(StartedAlone(app, tmp_path / "home")({"type": "lifespan"}, None, send))

    servers = [threading.Thread(target=serve) for _ in range(3)]
    for server in servers:
        server.start()
    for server in servers:
        server.join()
    assert events == ["starts", "started"] * 3
    assert not all_run.broken


def environment(folder):
    """Environment of a command without a server."""
    known = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    return known | {"HOME": str(folder), "PREFECT_HOME": str(folder / "prefect")}


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_bytes(b"no database" * 100)
    done = subprocess.run(
        [BIN / "slateflow", "generate", "lts-10-1", "--episodes", "4", "--data", tmp_path / "data"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "slateflow: RuntimeError: Prefect's server: expected it to run, it ended with status 3; "
        "`prefect server start` shows why (SLATEFLOW_TRACEBACK=1 shows where)"
    )


def test_the_temporary_server_ends_with_a_parent_that_is_killed(tmp_path):
    script = (
        "import time\nfrom flows.services.temporary_server import temporary_server\n"
        "with temporary_server():\n    print('up', flush=True)\n    time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout.readline() == "up\n"
        (server,) = psutil.Process(parent.pid).children()
        parent.kill()
    wait_until(lambda: not server.is_running(), 60, "the server's end")
