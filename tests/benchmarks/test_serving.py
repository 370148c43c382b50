"""The cost of a recommendation: in process, over HTTP, in batches; compared with bare scoring.

The floor is the necessary work with pandas frames: the frame of the request, the scores of the same
network in NumPy, the order, the frame of the answer. For a model with named columns MLflow's
`predict` around it is necessary, too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from functools import partial

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.pyfunc import PyFuncModel

from tasks.recommend import recommend
from tests.benchmarks.cores import one_core
from tests.registry.published import MODEL_URI, publish_champion
from tests.servers import model_server, own_server

pytestmark = pytest.mark.benchmark
CANDIDATES, ROWS = 20, 10_000


@pytest.fixture(scope="module", autouse=True)
def alone():
    """Restrict everything to one core, including the model server."""
    with one_core():
        yield


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """The scorer behind the champion of a registry of its own."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield publish_champion(folder)


def requests(rows: int) -> dict[str, list]:
    """Random requests as lists, as JSON has them."""
    rng = np.random.default_rng(0)
    return {
        "user": rng.random((rows, 1)).tolist(),
        "candidates": rng.random((rows, CANDIDATES, 1)).tolist(),
        "step": rng.integers(0, 120, rows).tolist(),
    }


def seconds(call: Callable[[], object], times: int) -> np.ndarray:
    """Seconds of each call, without the first ones."""
    took = []
    for _ in range(times + times // 10 + 1):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return np.array(took[-times:])


def bare(scorer, frame) -> pd.DataFrame:
    """The floor."""
    user, candidates = (np.array(frame[name].tolist()) for name in ("user", "candidates"))
    scores = scorer.scores(user, frame["step"].to_numpy(np.int64), candidates)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : scorer.slate_size]
    answers = {"slate": best.tolist(), "scores": scores.tolist(), "propensity": 1.0}
    return pd.DataFrame(answers)


class Floor:
    """The floor as a model that MLflow calls."""

    def __init__(self, scorer) -> None:
        self.scorer = scorer

    def predict(self, data: pd.DataFrame, params: object = None) -> pd.DataFrame:
        """The floor's answers."""
        del params
        return bare(self.scorer, data)


def test_one_request(scorer):
    one = requests(1)
    model = mlflow.pyfunc.load_model(MODEL_URI)
    inner = model.unwrap_python_model()
    floor = PyFuncModel(model_meta=model.metadata, model_impl=Floor(scorer))
    answer = bare(scorer, pd.DataFrame(one))
    for served in (model, floor):
        assert served.predict(pd.DataFrame(one))[list(answer)].equals(answer)
    calls = {
        "bare NumPy and frames": lambda: bare(scorer, pd.DataFrame(one)),
        "MLflow around that": lambda: floor.predict(pd.DataFrame(one)),
        "recommender alone": lambda: inner.predict(None, pd.DataFrame(one)),
        "pyfunc in process": lambda: model.predict(pd.DataFrame(one)),
    }
    took = {name: seconds(call, 1000) for name, call in calls.items()}
    body = json.dumps({"dataframe_split": pd.DataFrame(one).to_dict("split")}).encode()
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with model_server(MODEL_URI, uri) as address:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/invocations", body, headers)
        took["over HTTP"] = seconds(lambda: urllib.request.urlopen(request).read(), 500)
    least = np.median(took["bare NumPy and frames"])
    print(f"\none request, {CANDIDATES} candidates      p50 ms   p99 ms   ratio")
    for name, values in took.items():
        p50, p99 = np.percentile(values, [50, 99])
        print(f"{name:30s}  {1e3 * p50:8.3f} {1e3 * p99:8.3f} {p50 / least:7.1f}")


CONNECTIONS, SECONDS = 16, 10.0


async def ask_without_end(
    address: str, path: str, bodies: list[bytes], took: list[float], until: float
) -> None:
    """Send requests over one open connection, each after the answer to the one before."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for body in itertools.cycle(bodies):
        start = time.perf_counter()
        if start > until:
            break
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        (length,) = re.findall(rb"content-length: (\d+)", answer.lower())
        await reader.readexactly(int(length))
        took.append(time.perf_counter() - start)
    writer.close()


def rate(address: str, path: str, bodies: list[bytes]) -> tuple[float, np.ndarray]:
    """Requests per second, and the time of each, from another core than the server's."""
    took: list[float] = []

    async def ask() -> None:
        for seconds in (2.0, SECONDS):  # the first ones do not count
            took.clear()
            until = time.perf_counter() + seconds
            await asyncio.gather(
                *(ask_without_end(address, path, bodies, took, until) for _ in range(CONNECTIONS))
            )

    asyncio.run(ask())
    return len(took) / SECONDS, np.array(took)


def test_requests_a_second_over_http(scorer):
    del scorer
    uri, rows = os.environ["MLFLOW_TRACKING_URI"], pd.DataFrame(requests(200))
    records = [json.loads(line) for line in rows.to_json(orient="records", lines=True).splitlines()]
    own = [json.dumps(one).encode() for one in records]
    mlflows = [json.dumps({"dataframe_records": [one]}).encode() for one in records]
    model = MODEL_URI.removeprefix("models:/").removesuffix("@champion")
    servers = {
        "mlflow models serve": (model_server(MODEL_URI, uri), "/invocations", mlflows),
        "the same, two workers": (
            model_server(MODEL_URI, uri, "--workers", "2"), "/invocations", mlflows
        ),
        "mlflow/server.py, each alone": (own_server(model, TOGETHER="1"), "/recommend", own),
        "mlflow/server.py": (own_server(model), "/recommend", own),
    }  # fmt: skip
    print(f"\n{CONNECTIONS} connections, {CANDIDATES} candidates    requests/s   p50 ms   p99 ms")
    cores = os.sched_getaffinity(0)
    for name, (server, path, bodies) in servers.items():
        with server as address:  # on this core
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
            asked, took = rate(address, path, bodies)
            os.sched_setaffinity(0, cores)
        p50, p99 = 1e3 * np.percentile(took, [50, 99])
        print(f"{name:36s} {asked:12,.0f} {p50:8.1f} {p99:8.1f}")


def test_batches(scorer):
    many = requests(ROWS)
    frame = pd.DataFrame(many)
    arrays = pd.DataFrame(
        {
            "user": list(np.array(many["user"])),
            "candidates": [np.array(row) for row in many["candidates"]],
            "step": many["step"],
        }
    )
    model = mlflow.pyfunc.load_model(MODEL_URI)
    inner = model.unwrap_python_model()
    floor = PyFuncModel(model_meta=model.metadata, model_impl=Floor(scorer))
    assert inner.predict(None, arrays).drop(columns="outside").equals(bare(scorer, frame))
    user, step = np.array(many["user"]), np.array(many["step"])
    candidates = np.array(many["candidates"])
    calls = {
        "the network alone": lambda: scorer.scores(user, step, candidates),
        "bare NumPy and frames": lambda: bare(scorer, frame),
        "MLflow around that, lists": lambda: floor.predict(frame),
        "MLflow around that, arrays": lambda: floor.predict(arrays),
        "recommender alone, lists": lambda: inner.predict(None, frame),
        "recommender alone, arrays": lambda: inner.predict(None, arrays),
        "pyfunc, lists": lambda: model.predict(frame),
        "pyfunc, arrays": lambda: model.predict(arrays),
    }
    print(f"\nbatches of {ROWS:,} rows, {CANDIDATES} candidates     rows/s   ratio")
    medians = {name: np.median(seconds(call, 7)) for name, call in calls.items()}
    for name, median in medians.items():
        ratio = median / medians["bare NumPy and frames"]
        print(f"{name:40s} {ROWS / median:12,.0f} {ratio:7.1f}")


def test_a_file(scorer, tmp_path):
    rows = 20 * ROWS
    rng = np.random.default_rng(0)
    columns = {
        "user": rng.random((rows, 1)).tolist(),
        "candidates": rng.random((rows, CANDIDATES, 1)).tolist(),
        "step": rng.integers(0, 120, rows).tolist(),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    answer = partial(recommend, MODEL_URI, tmp_path / "in.parquet", tmp_path / "out.parquet")
    median = np.median(seconds(answer, 3))
    print(f"\n`slateflow recommend`, {rows:,} rows from file to file: {rows / median:,.0f} rows/s")
