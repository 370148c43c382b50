"""A program without our package loads the champion: only MLflow, NumPy and pandas."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from flows.register import register
from slateflow.environments import preset
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.trajectories import Folder, generate, read_recipe
from tasks.store.requests import request_frame
from tests.registry.published import register_winner
from tests.servers import mlflow_server

RECIPES = Path(__file__).parents[2] / "datasets"
NAME = "modified-lts-10-1"

CONSUMER = """
import importlib.util, json, sys
import mlflow.pyfunc
import pandas as pd

for module in ("slateflow", "ray", "torch", "prefect", "recsim", "pyarrow", "scipy", "sklearn"):
    assert importlib.util.find_spec(module) is None, module
requests = json.load(open(sys.argv[1]))
model = mlflow.pyfunc.load_model(sys.argv[2])
answers = model.predict(pd.DataFrame(requests))
print(json.dumps(answers["slate"].tolist()))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small dataset and a model trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = generate(read_recipe(RECIPES, NAME).varied(40, 1), Folder(str(folder)))
    scorer, report = train(dataset, learner_config("fitted-q"), seed=1)
    return dataset, scorer, report


def publish(trained) -> None:
    """Register the model with the flow."""
    dataset, scorer, summary = trained
    register_winner(dataset, NAME, scorer, summary, register)


def expected_slates(scorer, folder: Path) -> tuple[list[list[int]], Path]:
    """Requests with 10 and with 3 candidates as a JSON file, and the policy's slates for them."""
    requests, slates = [], []
    for count in (10, 3):
        env = BatchedLongTermSatisfaction(preset(NAME, num_candidates=count), 25)
        observation, _ = env.reset(seed=count)
        observation["step"] = np.full((25, 1), 115, dtype=np.int32)
        shown, _ = ScoringPolicy(scorer).act(observation, np.random.default_rng(0))
        slates += shown.tolist()
        requests += request_frame(observation).to_dict("records")
    path = folder / "requests.json"
    path.write_text(json.dumps(requests))
    return slates, path


def ask_elsewhere(
    packages: list[str],
    uri: str,
    requests: Path,
    folder: Path,
    model: str = f"models:/slateflow-{NAME}@champion",
) -> list[list[int]]:
    """Run the consumer in an environment with these packages, in our versions."""
    uv = shutil.which("uv")
    assert uv is not None, "the tests are started with uv"
    script = folder / "consumer.py"
    script.write_text(CONSUMER)
    pinned = [f"--with={package}=={version(package)}" for package in packages]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith(("PREFECT", "UV_"))
    }
    environment |= {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "DO_NOT_TRACK": "true",
    }
    command = [uv, "run", "--no-project", "--isolated", "--quiet", "--python", sys.executable]
    done = subprocess.run(
        [*command, *pinned, "python", str(script), str(requests), model],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    slates: list[list[int]] = json.loads(done.stdout)
    return slates


@pytest.mark.slow
def test_from_the_sqlite_file(embedded, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    publish(trained)
    slates, requests = expected_slates(trained[1], tmp_path)
    packages = ["mlflow-skinny", "numpy", "pandas", "sqlalchemy", "alembic"]
    uri = os.environ["MLFLOW_TRACKING_URI"]
    assert uri.startswith("sqlite:///")
    assert ask_elsewhere(packages, uri, requests, tmp_path) == slates


@pytest.mark.slow
def test_from_a_server(embedded, trained, tmp_path, monkeypatch):
    with mlflow_server(tmp_path / "server") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        publish(trained)
        slates, requests = expected_slates(trained[1], tmp_path)
        packages = ["mlflow-skinny", "numpy", "pandas"]
        assert ask_elsewhere(packages, uri, requests, tmp_path) == slates
