"""`slateflow estimate`: its JSON, and refusals."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from flows.cli.main import main
from slateflow.environments.logged import LoggedSpec
from tasks.store.champion import SPEC, misfits
from tasks.store.tracking import mlflow_client
from tests.flows.cli.test_cli import complain

LOGS = ("modified-lts-10-1", "--episodes", "600")


@pytest.fixture(scope="module")
def data(embedded, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("estimate"))
    run = ["run", *LOGS, "--data", folder, "--learners", "linucb", "--json"]
    with pytest.MonkeyPatch.context() as patch:  # a registry that no other test promotes in
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        assert main([*run, "--evaluation-episodes", "200"]) == 0
        yield folder


def estimate(capsys, data: str, *arguments: str):
    assert main(["estimate", *LOGS, "--data", data, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_document(data, capsys):
    capsys.readouterr()
    found = estimate(capsys, data, "--policy", "greedy")
    assert list(found) == [
        "recipe", "policy", "rows", "sessions", "visitors", "logged", "estimates", "overlap",
        "trusted", "no_verdict",
    ]  # fmt: skip
    assert set(found["overlap"]) == {
        "ess", "effective_rewards", "mean_weight", "mean_weight_ci", "largest_weight",
        "largest_share", "unsupported", "weight_counts",
    }  # fmt: skip
    assert found["overlap"]["mean_weight"] is None  # the policies are known, and need no check
    assert (found["sessions"], found["rows"], found["trusted"]) == (600, 72_000, "drl")
    assert found["visitors"] is None
    values = {one["estimator"]: one for one in found["estimates"]}
    assert list(values) == ["ips", "snips", "dm", "drl"]
    low, high = values["drl"]["ci"]
    # A session of greedy is worth about 6 more than one of random (docs/learning.md)
    assert low < 1164.2 < high
    only = estimate(capsys, data, "--policy", "greedy", "--estimator", "drl")
    assert only["estimates"] == [values["drl"]]


def test_what_the_logs_earned(data, capsys):
    found = estimate(capsys, data, "--policy", "logged")
    (one,) = found["estimates"]
    assert one["estimator"] == found["trusted"] == "mean"
    assert one["value"] == found["logged"]["mean"]


def test_the_table(data, capsys):
    assert main(["estimate", *LOGS, "--data", data, "--policy", "opposite"]) == 0
    printed = capsys.readouterr().out
    assert "opposite by the logs of modified-lts-10-1, 600 sessions" in printed.splitlines()
    assert "no verdict" in printed
    assert "effective decisions" in printed
    assert "mean weight" not in printed


def test_what_cannot_be_estimated_is_one_line(data, capsys):
    capsys.readouterr()
    asked = ["estimate", *LOGS, "--data", data]
    line = complain(capsys, *asked, "--policy", "best")
    assert "--policy: expected random, greedy, opposite, logged or a version" in line
    line = complain(capsys, *asked, "--policy", "random", "--estimator", "dr,drl")
    assert "--estimator: expected some of ips, snips, dm, drl for these logs, got dr" in line
    line = complain(capsys, *asked, "--policy", "logged", "--estimator", "dr")
    assert "--estimator: expected some of mean for --policy logged, got dr; leave it out" in line
    for version in ("@champion", "/1", "/latest"):
        uri = f"models:/slateflow-modified-lts-10-1{version}"
        line = complain(capsys, *asked, "--policy", uri)
        assert f"expected a model that has not seen all of these logs, got {uri}" in line
    for uri in ("models:/nothing@champion", "models:/nothing/1", "models:/nothing/latest"):
        line = complain(capsys, *asked, "--policy", uri)
        assert f"--policy: expected a version such as models:/NAME@champion at {uri}" in line
    for uri in ("models:/slateflow-modified-lts-10-1", "models:/slateflow-modified-lts-10-1@"):
        line = complain(capsys, *asked, "--policy", uri)
        assert f"expected a version such as models:/NAME@champion at {uri}, got none" in line


@pytest.mark.parametrize(
    ("world", "columns", "expected"),
    [
        ("long_term_satisfaction", [], ["a model of long_term_satisfaction instead of logged"]),
        ("logged", ["age", "land=at"], ["no numbers of the user's column age"]),
        ("logged", ["land=at"], []),  # categories come and go
        ("logged", [], []),
    ],
)
def test_a_version_fits_logs_of_its_world_with_its_columns(world, columns, expected):
    sizes = {"slate_size": 1, "num_candidates": 2}
    spec = LoggedSpec(name="shop", user_features=("land=de",), item_features=("x",), **sizes)
    version = SimpleNamespace(tags={SPEC: json.dumps({"world": world, "user_features": columns})})
    assert misfits(version, spec) == expected


def test_a_version_of_another_world_is_one_line(data, capsys):
    client, name = mlflow_client(), "slateflow-modified-lts-10-1"
    before = client.get_model_version(name, "1").tags[SPEC]
    client.set_model_version_tag(name, "1", SPEC, json.dumps({"world": "logged"}))
    uri = f"models:/{name}/1"
    try:
        line = complain(capsys, "estimate", *LOGS, "--data", data, "--policy", uri)
    finally:
        client.set_model_version_tag(name, "1", SPEC, before)
    assert f"--policy {uri}: expected a model that fits these logs, got a model of logged" in line
