"""`mlflow models serve` over HTTP: right answers, and messages for wrong requests."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request

import numpy as np
import pytest

from slateflow.trajectories import read_recipe
from tests.registry.published import MODEL_URI, NAME, RECIPES, publish_champion
from tests.servers import model_server

GOOD = {"user": [0.5], "candidates": [[0.9], [0.1], [0.4]], "step": 17}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The registered scorer, and the address of its server."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        scorer = publish_champion(folder)
        with model_server(MODEL_URI, os.environ["MLFLOW_TRACKING_URI"]) as address:
            yield scorer, address


def ask(address: str, body: object) -> tuple[int, dict]:
    """Status and document of the answer to a request."""
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def expected_scores(scorer, row) -> np.ndarray:
    """The scorer's own answer to a request."""
    candidates = np.array([row["candidates"]], dtype=float)
    return scorer.scores(np.array([row["user"]]), np.array([row["step"]]), candidates)[0]


def test_single_batched_ragged_and_very_long_requests(served):
    scorer, address = served
    rng = np.random.default_rng(2)
    rows = [GOOD, {**GOOD, "candidates": [[0.3]], "step": 100}, {**GOOD, "user": [0.1]}]
    rows.append({**GOOD, "candidates": rng.random((10_000, 1)).tolist()})
    for batch in ([GOOD], rows):
        status, document = ask(address, {"dataframe_records": batch})
        assert status == 200, document
        assert len(document["predictions"]) == len(batch)
        for row, answer in zip(batch, document["predictions"], strict=True):
            scores = expected_scores(scorer, row)
            np.testing.assert_allclose(answer["scores"], scores, rtol=1e-12)
            best = sorted(range(len(scores)), key=lambda place: -scores[place])
            assert answer["slate"] == best[: scorer.slate_size]


def test_no_requests_have_no_answers(served):
    _, address = served
    none = {"columns": ["user", "candidates"], "data": []}
    assert ask(address, {"dataframe_split": none}) == (200, {"predictions": []})


def test_a_request_without_a_step_is_at_the_beginning(served):
    scorer, address = served
    row = {key: value for key, value in GOOD.items() if key != "step"}
    scores = expected_scores(scorer, {**row, "step": 0})
    for batch in ([row], [{**row, "step": None}, GOOD]):
        status, document = ask(address, {"dataframe_records": batch})
        assert status == 200
        np.testing.assert_allclose(document["predictions"][0]["scores"], scores, rtol=1e-12)


def test_features_far_from_all_that_was_seen_are_counted(served):
    _, address = served  # satisfaction stayed about .5, clickbait is in [0, 1]
    near, far = {**GOOD, "user": [0.6], "candidates": [[1.5], [-0.5]]}, {**GOOD, "user": [5.0]}
    farther = {"user": [-3.0], "candidates": [[0.9], [7.0], [-1.5]], "step": 17}
    status, document = ask(address, {"dataframe_records": [GOOD, near, far, farther]})
    assert status == 200, document
    assert [answer["outside"] for answer in document["predictions"]] == [0, 0, 1, 3]


def test_a_step_far_beyond_the_last_is_counted(served):
    _, address = served
    last = read_recipe(RECIPES, NAME).spec.horizon - 1
    rows = [{**GOOD, "step": step} for step in (last, 2 * last, 2 * last + 1)]
    status, document = ask(address, {"dataframe_records": rows})
    assert status == 200, document
    assert [answer["outside"] for answer in document["predictions"]] == [0, 0, 1]


def test_parameters_explore(served):
    scorer, address = served
    body = {"dataframe_records": [GOOD] * 200, "params": {"epsilon": 0.5, "seed": 7}}
    status, document = ask(address, body)
    assert status == 200, document
    assert ask(address, body)[1] == document
    scores = expected_scores(scorer, GOOD)
    best = sorted(range(3), key=lambda place: -scores[place])[: scorer.slate_size]
    for answer in document["predictions"]:  # six slates of two of three
        expected = 0.5 / 6 + 0.5 * (answer["slate"] == best)
        assert answer["propensity"] == pytest.approx(expected, rel=1e-12)
    assert len({tuple(answer["slate"]) for answer in document["predictions"]}) == 6
    _, document = ask(address, {"dataframe_records": [GOOD]})
    assert document["predictions"][0]["slate"] == best
    assert document["predictions"][0]["propensity"] == 1.0


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"epsilon": 1.5}, "epsilon: expected a number from 0 to 1, got 1.5"),
        ({"epsilon": -0.1}, "epsilon: expected a number from 0 to 1, got -0.1"),
        ({"epsilon": float("nan")}, "epsilon: expected a number from 0 to 1, got nan"),
        ({"epsilon": "often"}, "Can not safely convert `<class 'str'>` to `DataType.double`"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, or none, got -1"),
        ({"seed": 0.5}, "Can not safely convert `<class 'float'>` to `DataType.long`"),
    ],
)
def test_wrong_parameters_are_refused_with_a_sentence(served, params, sentence):
    _, address = served
    status, document = ask(address, {"dataframe_records": [GOOD], "params": params})
    assert status == 400, document
    assert sentence in document["message"]
    assert "Traceback" not in json.dumps(document)


LISTS = "expected one or more lists of 1 number each"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"user": None}, "user, row 1: expected a list of 1 number, got"),
        ({"user": ["half"]}, "user, row 1: expected a list of 1 number, got ['half']"),
        ({"user": [0.5, 0.5]}, "user, row 1: expected a list of 1 number, got 2 numbers"),
        ({"user": [float("nan")]}, "user, row 1: expected finite numbers, got NaN or infinity"),
        ({"candidates": []}, f"candidates, row 1: {LISTS}, got an empty list"),
        ({"candidates": [[0.9], [0.1, 0.2]]}, f"{LISTS}, got lists of different lengths"),
        ({"candidates": [[0.9, 0.1]]}, f"candidates, row 1: {LISTS}, got lists of 2 numbers"),
        ({"candidates": [[True]]}, f"candidates, row 1: {LISTS}, got [[True]]"),
        ({"candidates": [[float("inf")]]}, "candidates, row 1: expected finite numbers"),
        ({"candidates": "kale"}, f"candidates, row 1: {LISTS}, got kale"),
        ({"candidates": [[float("nan")]]}, "candidates, row 1: expected finite numbers"),
        ({"candidates": [[None]]}, f"{LISTS}, got a list in which a number is missing"),
        ({"candidates": [[[0.9]]]}, f"candidates, row 1: {LISTS}, got [[[0.9]]]"),
        ({"candidates": None}, f"candidates, row 1: {LISTS}, got nothing"),
        (
            {"user": [1e300]},
            "row 1: expected numbers that can be scored, got numbers too large for that",
        ),
        ({"step": 1.5}, "step, row 1: expected a whole number from 0 to 2147483647, got 1.5"),
        ({"step": -1}, "step, row 1: expected a whole number from 0 to 2147483647, got -1"),
        ({"step": "soon"}, "step, row 1: expected a whole number from 0 to 2147483647, got soon"),
        ({"step": "3"}, "step, row 1: expected a whole number from 0 to 2147483647, got 3"),
        ({"step": True}, "step, row 1: expected a whole number from 0 to 2147483647, got True"),
        ({"step": [17]}, "step, row 1: expected a whole number from 0 to 2147483647, got [17]"),
        ({"step": 10**12}, "from 0 to 2147483647, got 1000000000000"),
        ({"step": 10**400}, "from 0 to 2147483647, got 1000"),
        ({"step": 1e300}, "step, row 1: expected a whole number from 0 to 2147483647, got 1e+300"),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(served, change, sentence):
    _, address = served
    status, document = ask(address, {"dataframe_records": [GOOD, {**GOOD, **change}]})
    assert 400 <= status < 500, document
    assert sentence in document["message"]
    assert "Traceback" not in json.dumps(document)


@pytest.mark.parametrize("missing", ["user", "candidates"])
def test_a_missing_column_is_named(served, missing):
    _, address = served
    row = {key: value for key, value in GOOD.items() if key != missing}
    status, document = ask(address, {"dataframe_records": [row]})
    assert 400 <= status < 500, document
    assert missing in document["message"]
    assert "Traceback" not in json.dumps(document)


@pytest.mark.parametrize("body", [{}, [], {"dataframe_records": "no"}, {"inputs": None}])
def test_another_document_is_refused(served, body):
    _, address = served
    status, document = ask(address, body)
    assert 400 <= status < 500, document
    assert "Traceback" not in json.dumps(document)


def test_a_body_that_is_no_json_is_refused(served):
    _, address = served
    request = urllib.request.Request(
        f"{address}/invocations", b"{user:", {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request):
        pass
    with refused.value as answer:
        assert answer.code == 400
        assert b"Traceback" not in answer.read()
