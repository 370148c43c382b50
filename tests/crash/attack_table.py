"""Requests by strangers to the servers of `slateflow up`, and the answers.

    uv run python -m tests.crash.attack_table

prints the table, and ends with 1 if a stranger was admitted or the owner was not. Each attack uses
a request that the owner may make: from another site's page, under a host name that resolves to this
machine, and without the password.
"""

from __future__ import annotations

import http.client
import re
import sys
import tempfile
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from tests.up import Up, running_up

USER, PASSWORD = "owner", "a-password-of-twelve"
LOGIN = f"{USER}:{PASSWORD}"
PASSWORDS = {
    "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
    "MLFLOW_TRACKING_USERNAME": USER,
    "MLFLOW_TRACKING_PASSWORD": PASSWORD,
}
"""Environment variables with which `up` requires a password."""
PAGE = "http://pages.example"

WHO: dict[str, dict[str, str | None]] = {
    "owner": {},
    "foreign origin": {"Origin": PAGE},
    "no origin, as a file": {"Origin": "null"},
    "other local page": {"Origin": "http://localhost:3999"},
    "foreign host": {"Host": "rebound.example"},
    "no password": {"Authorization": None},
    "wrong password": {"Authorization": "owner:another-password"},
}
"""Headers in which a request differs from its owner's; None omits one."""


@dataclass(frozen=True)
class Target:
    """A request that its owner may make."""

    server: str
    method: str
    path: str
    body: str | None = None
    content_type: str | None = "application/json"
    upgrade: bool = False  # to a websocket, in which the password is requested


def targets(deployment: str) -> list[Target]:
    """Reads and writes on both servers; writes in a form that pages can send without preflight."""
    run = f"/api/deployments/{deployment}/create_flow_run"
    return [
        Target("Prefect", "POST", "/api/flow_runs/count", "{}"),
        Target("Prefect", "POST", run, "{}", content_type=None),
        Target("Prefect", "GET", "/api/events/out", upgrade=True),
        Target("Prefect", "GET", "/"),
        Target("MLflow", "GET", "/api/2.0/mlflow/experiments/get?experiment_id=0"),
        Target(
            "MLflow", "POST", "/api/2.0/mlflow/experiments/set-experiment-tag",
            '{"experiment_id": "0", "key": "attack", "value": "done"}',
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """The answer to a request: its status, and whether a page of the origin may read it."""

    target: Target
    who: str
    status: int
    readable: bool

    @property
    def text(self) -> str:
        """The text of the answer in the table."""
        if "Origin" not in WHO[self.who] or self.status >= 400:
            return str(self.status)
        return f"{self.status}, {'readable' if self.readable else 'unreadable'}"

    @property
    def good(self) -> bool:
        """True if the owner was admitted, or the stranger was not."""
        let_in, target = self.status in (101, 200, 201), self.target
        if self.who == "owner":
            return let_in
        if "password" in self.who:
            # The UI is public, and the password is requested inside the websocket
            return let_in if target.upgrade or target.path == "/" else self.status == 401
        if target.server == "MLflow" and self.who == "other local page":
            return True  # MLflow trusts all pages of this machine; they are its owner's programs
        if target.server == "MLflow" and target.method == "GET" and "Origin" in WHO[self.who]:
            return not self.readable  # it answers, and the browser keeps the answer from the page
        return self.status == 403


def ask(up: Up, target: Target, who: str) -> Answer:
    """Make a request as one of `WHO`."""
    port = up.ports[0 if target.server == "Prefect" else 1]
    headers: dict[str, str | None] = {"Host": f"127.0.0.1:{port}", "Authorization": LOGIN}
    if target.body is not None and target.content_type:
        headers["Content-Type"] = target.content_type
    if target.upgrade:
        headers |= {"Connection": "Upgrade", "Upgrade": "websocket"}
        headers |= {"Sec-WebSocket-Protocol": "prefect"}
        headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}
    headers |= WHO[who]
    if login := headers["Authorization"]:
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    body = None if target.body is None else target.body.encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest(target.method, target.path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    allowed = answer.getheader("Access-Control-Allow-Origin", "")
    connection.close()
    readable = allowed in ("*", headers.get("Origin", ""))
    return Answer(target, who, answer.status, readable)


def answers(up: Up) -> list[Answer]:
    """The answers to all requests of all in `WHO`."""
    nightly = "nightly-modified-lts-20-2"
    (deployment,) = [one for one in up.post("deployments/filter", {}) if one["name"] == nightly]
    return [ask(up, target, who) for target in targets(deployment["id"]) for who in WHO]


def table(given: list[Answer]) -> str:
    """A line per request, and a column per requester."""
    lines = [f"{'request':<66}" + "".join(f"{who:<22}" for who in WHO).rstrip()]
    for target in dict.fromkeys(one.target for one in given):
        row = [one for one in given if one.target is target]
        path = re.sub(r"[0-9a-f-]{36}", "…", target.path)
        name = f"{target.server:<9}{'WS' if target.upgrade else target.method:<6}{path}"
        cells = (one.text + ("" if one.good else " BAD") for one in row)
        lines.append(f"{name:<66}" + "".join(f"{cell:<22}" for cell in cells).rstrip())
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns 0 if all answers are right."""
    with tempfile.TemporaryDirectory() as folder, running_up(Path(folder), **PASSWORDS) as up:
        given = answers(up)
    print(table(given))
    return 0 if all(one.good for one in given) else 1


if __name__ == "__main__":
    sys.exit(main())
