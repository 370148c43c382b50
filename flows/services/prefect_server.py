"""Prefect's server for the pages and programs of this machine.

Prefect checks neither the name in a request nor the page that sent it. It also takes a request
without a content type for JSON, and browsers ask no permission for such a request. So a foreign
page could start runs.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows.services.processes import HOST
from slateflow.trajectories.files.atomic_files import make_folder

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = (HOST, "localhost", "::1")
"""Names of this machine; others lead here where their owner lets them."""

ATTEMPTS, PAUSE_SECONDS = 40, 0.025
"""How often a busy database is asked, and how long it has between."""

FAILED_TO_START = 3
"""Exit status, as uvicorn's own."""


def own_origins(port: int) -> list[str]:
    """Origins of the server's own pages."""
    return [f"http://{name}:{port}" for name in (HOST, "localhost", "[::1]")]


class OwnPagesOnly:
    """The application for requests under the machine's own names, and not from foreign pages."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.origins = own_origins(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to all others; a websocket is closed before it opens, which is 403, too."""
        from starlette.responses import PlainTextResponse
        from starlette.websockets import WebSocketClose

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-frame-options", b"SAMEORIGIN")]
            await send(message)

        if scope["type"] == "lifespan" or (refusal := self._refusal(scope)) is None:
            await self.app(scope, receive, send_unframed)
        elif scope["type"] == "websocket":
            await WebSocketClose(reason=refusal)(scope, receive, send)
        else:
            await PlainTextResponse(refusal, 403)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        try:
            known = urlsplit(f"//{host}").hostname in NAMES
        except ValueError:
            known = False
        if not known:
            return f"Host: expected one of {', '.join(NAMES)}, got {host!r}"
        # Through a tunnel the port is another, for page and request alike
        if origin not in (None, f"http://{host}", *self.origins):
            return f"Origin: expected a page of {self.origins[0]}, got one of {origin!r}"
        return None


class AskedAgain:
    """The application; repeats a request while the database is busy.

    SQLite refuses one of two writers at once. Prefect then answers 503, having changed nothing, and
    its clients wait two seconds before they try again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503 only after `ATTEMPTS`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = [await receive()]
        while request[-1].get("more_body"):
            request.append(await receive())
        for _ in range(ATTEMPTS - 1):
            if await self._answers(scope, request, receive, send):
                return
            await asyncio.sleep(PAUSE_SECONDS)
        await self.app(scope, _replayed(request, receive), send)

    async def _answers(
        self, scope: Scope, request: list[Message], receive: Receive, send: Send
    ) -> bool:
        """Whether it was not busy; its answer is sent then."""
        busy = False

        async def send_unless_busy(message: Message) -> None:
            nonlocal busy
            busy = busy or message.get("status") == HTTPStatus.SERVICE_UNAVAILABLE
            if not busy:
                await send(message)

        try:
            await self.app(dict(scope), _replayed(request, receive), send_unless_busy)
        except Exception:  # Starlette answers, and raises
            if not busy:
                raise
        return not busy


class StartedAlone:
    """The application; starts while no other server with the same home does.

    Prefect makes the tables as it starts, and alters those of an earlier version, one by one. Of
    two servers that do so at the same time one fails, or both.
    """

    def __init__(self, app: ASGIApp, home: Path) -> None:
        self.app = app
        self.home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lock the home until the application has started, or failed to."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        make_folder(self.home)
        folder = os.open(self.home, os.O_RDONLY)

        async def unlock_and_send(message: Message) -> None:
            fcntl.flock(folder, fcntl.LOCK_UN)
            await send(message)

        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            await self.app(scope, receive, unlock_and_send)
        finally:
            os.close(folder)


def _replayed(request: list[Message], receive: Receive) -> Receive:
    """The messages of a request once more, and those that follow."""
    messages = iter(request)

    async def receive_again() -> Message:
        for message in messages:
            return message
        return await receive()

    return receive_again


def serve(listening: socket.socket, temporary: bool = False) -> None:
    """Run the server on this socket until a signal ends it.

    Args:
        listening: Bound to a port of this machine.
        temporary: Whether it is for one command, without pages.
    """
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    home, settings = get_current_settings().home, get_current_settings().server
    app = StartedAlone(create_app(final=True, ephemeral=temporary), home)
    server = uvicorn.Server(
        uvicorn.Config(
            OwnPagesOnly(AskedAgain(app), listening.getsockname()[1]),
            timeout_keep_alive=settings.api.keepalive_timeout,
            ws_ping_interval=settings.api.websocket_ping_interval,
            ws_ping_timeout=settings.api.websocket_ping_timeout,
            log_level=settings.logging_level.lower(),
        )
    )
    server.run(sockets=[listening])
    if not server.started:
        sys.exit(FAILED_TO_START)


if __name__ == "__main__":
    with socket.socket() as chosen:
        chosen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        chosen.bind((HOST, int(sys.argv[1])))
        serve(chosen)
