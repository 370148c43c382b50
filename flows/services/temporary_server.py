"""Prefect's server for one command, where none is configured.

Prefect would start a server with the first flow, after all imports, and import the server in this
process, too. Our server starts beside the imports, which take ten seconds on an empty HOME. It has
a session of its own, so that Ctrl-C does not end it before the run has reported to it. It ends with
its parent, however the parent ends.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flows.services.prefect_server import serve
from flows.services.processes import HOST
from tasks.server.answering import answering_client

_FAREWELL_SECONDS = 5.0
_WITHOUT_PAGES = {"PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}  # types to choose from, there


@contextmanager
def temporary_server() -> Iterator[None]:
    """Run a server of Prefect within the block; it may still be starting.

    Requests wait until the server has started: the socket is there at once.

    Raises:
        InputError: Another server is configured, and does not answer.
        RuntimeError: The block failed, and the server had ended.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        get_current_settings,
        temporary_settings,
    )

    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        with answering_client():
            pass
        yield
        return
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    with socket.create_server((HOST, 0)) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}/api"
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(listening.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
            env={**os.environ, **settings, **_WITHOUT_PAGES},
            start_new_session=True,
        )
    atexit.register(_end, process)  # after Prefect's own farewell, which sends the last logs
    try:
        with temporary_settings({PREFECT_API_URL: address}):
            yield
    except Exception as error:
        if process.poll() is not None:
            raise RuntimeError(
                f"Prefect's server: expected it to run, it ended with status {process.returncode}; "
                "`prefect server start` shows why"
            ) from error
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_FAREWELL_SECONDS + 1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_parent() -> None:
    """End when the parent closes the pipe, or has ended."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_FAREWELL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve(socket.socket(fileno=int(sys.argv[1])), temporary=True)
