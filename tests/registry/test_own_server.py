"""The example server in front of the champion: equal answers to single and joint requests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.registry.published import MODEL_URI, NAME, publish_champion
from tests.servers import own_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of the server."""
    folder = tmp_path_factory.mktemp("own-server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        publish_champion(folder)
        with own_server(f"slateflow-{NAME}") as address:
            yield address


def asked(address: str, body: bytes) -> tuple[int, dict]:
    """Status and answer to a request."""
    request = urllib.request.Request(
        f"{address}/recommend", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_requests_that_come_together_are_answered_as_alone(server):
    rng = np.random.default_rng(0)
    rows = [
        {
            "user": rng.random(1).tolist(),
            "candidates": rng.random((2 + number % 5, 1)).tolist(),
            **({"step": int(number)} if number % 2 else {}),
        }
        for number in range(60)
    ]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda row: asked(server, json.dumps(row).encode()), rows))
    model = mlflow.pyfunc.load_model(MODEL_URI)
    for row, (status, answer) in zip(rows, answers, strict=True):
        (alone,) = model.predict(pd.DataFrame([row])).to_dict("records")
        assert status == 200
        assert answer["version"] == "1"
        assert answer["slate"] == alone["slate"]
        assert answer["scores"] == pytest.approx(alone["scores"])


def test_a_request_that_does_not_fit_is_refused_and_those_beside_it_are_answered(server):
    good = json.dumps({"user": [0.5], "candidates": [[0.1], [0.9]]}).encode()
    bad = json.dumps({"user": [0.5, 0.5], "candidates": [[0.1], [0.9]]}).encode()
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda body: asked(server, body), [good, bad] * 20))
    assert [status for status, _ in answers] == [200, 400] * 20
    assert answers[1][1]["detail"].endswith("expected a list of 1 number, got 2 numbers")
    assert asked(server, b"[1, 2]")[0] == 422
    assert asked(server, b"{")[0] == 422


@pytest.mark.parametrize(
    ("columns", "got"),
    [
        ({}, "none"),
        ({"user": [0.5]}, "user"),
        ({"user": [0.5], "candidate": [[0.1], [0.9]]}, "user, candidate"),
        (
            {"user": [0.5], "candidates": [[0.1], [0.9]], "histories": []},
            "user, candidates, histories",
        ),
    ],
)
def test_columns_that_lack_or_are_misspelt_are_named(server, columns, got):
    status, answer = asked(server, json.dumps(columns).encode())
    expected = "expected columns user, candidates, step (optional), history (optional)"
    assert (status, answer["detail"]) == (400, f"{expected}, got {got}")
