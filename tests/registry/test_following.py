"""Consumers that follow the champion: by a webhook of the registry, and under load."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.filters import EventFilter

from slateflow.learners import learner_config, train
from slateflow.trajectories import Folder, generate, read_recipe
from tasks.store.champion import CHAMPION, PREVIOUS, rollback
from tasks.store.tracking import mlflow_client, model_name
from tests.registry.published import register_winner
from tests.servers import BIN, mlflow_server, prefect_server
from tests.up import wait_until

ROOT = Path(__file__).parents[2]
NAME = "modified-lts-10-1"
MODEL = model_name(NAME)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A server with two versions of a model with different answers; the second is champion."""
    folder = tmp_path_factory.mktemp("followed")
    with pytest.MonkeyPatch.context() as patch:
        # The receiver is on this machine, and speaks HTTP
        patch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
        patch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
        patch.setenv("MLFLOW_WEBHOOK_CACHE_TTL", "0")  # by default a new one counts after a minute
        with mlflow_server(folder) as address:
            patch.setenv("MLFLOW_TRACKING_URI", address)
            recipe = read_recipe(ROOT / "datasets", NAME).varied(60, 1)
            dataset, client = generate(recipe, Folder(str(folder))), mlflow_client()
            for seed in (1, 2):
                register_winner(dataset, NAME, *train(dataset, learner_config("lints"), seed))
                if seed == 1:  # the artificial verdict has no champion
                    client.delete_registered_model_alias(MODEL, CHAMPION)
            yield client


@pytest.fixture(autouse=True)
def second_version_reigns(registry):
    """Reset the aliases before each test."""
    registry.set_registered_model_alias(MODEL, CHAMPION, "2")
    registry.set_registered_model_alias(MODEL, PREVIOUS, "1")


@pytest.fixture
def receiver():
    """An HTTP receiver: its address, and its received requests."""
    received: queue.Queue[dict] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            received.put(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}/moved", received=received)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def champion(registry):
    """The documented consumer, which checks by itself only once an hour."""
    found = importlib.util.spec_from_file_location("consumer", ROOT / "mlflow" / "consumer.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.Champion(MODEL, seconds=3600)


def requests_frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    users, candidates = rng.random((3, 1)), rng.random((3, 10, 1))
    return pd.DataFrame({"user": users.tolist(), "candidates": candidates.tolist()})


def test_a_promotion_and_a_rollback_reach_a_consumer_by_webhook(registry, receiver, champion):
    events = ["model_version_alias.created"]
    hook = registry.create_webhook("consumer", receiver.address, events)
    try:
        version, _ = champion.answer(requests_frame())
        assert version == "2"
        rollback(registry, MODEL)
        while True:  # `previous` moves, too
            sent = receiver.received.get(timeout=60)["data"]
            if sent["alias"] == CHAMPION:
                break
        assert sent == {"name": MODEL, "alias": CHAMPION, "version": "1"}
        champion.moved.set()
        wait_for(champion, "1")
    finally:
        registry.delete_webhook(hook.webhook_id)


def test_no_request_is_lost_or_answered_by_half_a_model_while_the_champion_changes(
    registry, champion
):
    import mlflow

    frame = requests_frame()
    expected = {
        version: mlflow.pyfunc.load_model(f"models:/{MODEL}/{version}").predict(frame)
        for version in ("1", "2")
    }
    assert expected["1"]["scores"].tolist() != expected["2"]["scores"].tolist()
    done = threading.Event()

    def ask() -> dict[str, int]:
        counts = dict.fromkeys(expected, 0)
        while not done.is_set():
            version, answers = champion.answer(frame)
            pd.testing.assert_frame_equal(answers, expected[version])
            counts[version] += 1
        return counts

    with ThreadPoolExecutor(3) as pool:
        with contextlib.ExitStack() as stack:
            stack.callback(done.set)
            asking = [pool.submit(ask) for _ in range(3)]
            for version in ("1", "2", "1"):
                registry.set_registered_model_alias(MODEL, CHAMPION, version)
                champion.moved.set()
                wait_for(champion, version)
        counts = [one.result() for one in asking]
    assert all(sum(count[version] for count in counts) > 0 for version in expected)


def test_the_one_before_serves_on_while_the_registry_is_away(registry, champion, monkeypatch):
    monkeypatch.setattr(type(champion), "_version", lambda self: 1 / 0)
    champion.moved.set()
    while champion.moved.is_set():
        os.sched_yield()
    monkeypatch.undo()
    version, answers = champion.answer(requests_frame())
    assert (version, len(answers)) == ("2", 3)


@pytest.mark.slow
def test_a_rollback_in_a_shell_is_an_event(registry, tmp_path):
    command = [str(BIN / "slateflow"), "rollback", NAME]
    with prefect_server(tmp_path) as api, SyncPrefectClient(api) as prefect:
        for version, former in ((1, 2), (2, 1)):
            done = subprocess.run(
                command, env={**os.environ, "PREFECT_API_URL": api}, capture_output=True, text=True
            )
            assert (done.returncode, done.stderr) == (0, "")
            payload = {"name": MODEL, "version": version, "former": former}
            wait_until(lambda: told(prefect) == payload, 60, "the event")  # noqa: B023


def told(prefect: SyncPrefectClient) -> dict | None:
    """Payload of the newest rollback event on the server, if any."""
    rolled_back = {"event": {"name": ["slateflow.model.rolled-back"]}}
    events = prefect.read_events(EventFilter.model_validate(rolled_back), limit=1).events
    return events[0].payload if events else None


def wait_for(champion, version: str) -> None:
    """Wait until the consumer serves the version."""
    for _ in range(600):
        if champion.served[0] == version:
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"version {version} is not served after a minute")
