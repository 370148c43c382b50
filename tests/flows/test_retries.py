"""Runs during an outage of a server."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from slateflow.errors import InputError


def test_only_a_server_that_was_away_is_worth_another_try():
    import requests
    from prefect.states import Failed

    from tasks.server.retries import server_was_away
    from tasks.store.tracking import UnreachableError

    def worth(error: Exception) -> bool:
        return server_was_away(None, None, Failed(data=error))

    assert worth(UnreachableError("expected a server, got none"))
    assert worth(requests.exceptions.ConnectionError())
    wrapped = RuntimeError("as MLflow does it")
    wrapped.__cause__ = requests.exceptions.ReadTimeout()
    assert worth(wrapped)
    assert worth(half_an_answer())
    assert worth(half_a_download(listed=True))
    assert not worth(half_a_download(listed=False))
    assert not worth(InputError("expected a seed, got none"))
    assert not worth(RuntimeError("answers other slates"))


def half_an_answer() -> Exception:
    """The error of MLflow's client when the server dies in the middle of an answer."""
    import mlflow

    class Dies(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4693")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Dies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = mlflow.MlflowClient(f"http://127.0.0.1:{server.server_address[1]}")
        try:
            with pytest.raises(mlflow.MlflowException, match="IncompleteRead") as caught:
                client.get_run("1")
        finally:
            server.shutdown()
    return caught.value


def half_a_download(listed: bool) -> Exception:
    """The error of MLflow's client if the download of an existing file fails."""
    from mlflow.entities import FileInfo
    from mlflow.exceptions import MlflowException

    from tasks.store.tracking import SCORER_FILE, run_scorer

    class Restarted:
        """A client whose server died during a download, and is available again."""

        def download_artifacts(self, *_: str) -> str:
            raise MlflowException(f"Failed to download artifacts from path {SCORER_FILE!r}")

        def list_artifacts(self, run_id: str) -> list[FileInfo]:
            return [FileInfo(SCORER_FILE, False, 1)] * listed

    with pytest.raises((InputError, MlflowException), match=SCORER_FILE) as caught:
        run_scorer(Restarted(), "1")
    return caught.value


def test_a_run_knows_what_started_it_without_asking_the_server(embedded):
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from tasks.server.subflows import within_pipeline
    from tests.servers import free_port

    @flow
    def inner() -> bool:
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
            return within_pipeline()

    @flow
    def outer() -> bool:
        return inner()

    assert outer()
    assert not inner()
    assert not within_pipeline()
