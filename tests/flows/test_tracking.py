"""Addresses of stores and servers, and pages of runs, without secrets."""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from slateflow.errors import InputError
from tasks.store import tracking
from tasks.store.tracking import (
    UnreachableError,
    experiment_id,
    mlflow_client,
    page_url,
    redact_passwords,
)


def test_no_password_of_an_address_is_shown():
    assert (
        redact_passwords("postgresql://mlflow:s3cret@db:5432/x")
        == "postgresql://mlflow:***@db:5432/x"
    )
    assert (
        redact_passwords("got postgresql+asyncpg://:s3@h/x, no")
        == "got postgresql+asyncpg://:***@h/x, no"
    )
    for harmless in ("sqlite:////tmp/mlflow.db", "http://127.0.0.1:5000", "s3://bucket/a:b@c"):
        assert redact_passwords(harmless) == harmless


def test_links_carry_neither_name_nor_password():
    link = page_url("https://me:s3cret@mlflow.example/", "models/m/versions/3")
    assert link == "https://mlflow.example/#/models/m/versions/3?workflowType=machine_learning"


def test_a_database_that_is_away_is_found_at_once(monkeypatch):
    """MLflow would wait for minutes; port 9 is that of discard, which nobody serves."""
    uri = "postgresql+psycopg://me:s3cret@127.0.0.1:9/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    begun = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        mlflow_client()
    assert time.monotonic() - begun < 30  # no measurement: MLflow's own attempts take minutes
    message = str(caught.value)
    known = "expected a database at postgresql+psycopg://me:***@127.0.0.1:9/mlflow, got "
    assert message.startswith(f"MLFLOW_TRACKING_URI: {known}")
    assert message.endswith("; start it or unset the variable")
    assert "refused" in message
    assert "\n" not in message


@pytest.mark.parametrize("uri", ["mlruns", "file:///mlruns", "ftp://example.org"])
def test_what_mlflow_does_not_take_for_a_store_is_bad_input(embedded, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI: expected a store or"):
        mlflow_client()


@pytest.mark.parametrize("relative", [True, False])
def test_artifacts_lie_beside_the_database_wherever_that_is(tmp_path, monkeypatch, relative):
    folder = tmp_path / "50% off?#1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tracking, "PROJECT", folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow/mlflow.db" if relative else "")
    client = mlflow_client()
    store = folder / "mlflow"
    assert (store / "mlflow.db").stat().st_size > 0
    location = client.get_experiment(experiment_id(client, "new")).artifact_location
    assert url2pathname(urlsplit(location).path) == str(store / "artifacts")


def test_a_folder_from_which_mlflow_loads_no_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/50%2541/mlflow.db")
    with pytest.raises(InputError, match="without escapes such as %41"):
        mlflow_client()
    assert not (tmp_path / "50%41").exists()


def test_an_experiment_from_before_gets_the_view_of_today(embedded):
    client, view = mlflow_client(), "mlflow.sharedViewState.slateflow"
    made = client.create_experiment("slateflow-viewed", tags={view: "{}"})
    assert experiment_id(client, "viewed") == made
    columns = json.loads(client.get_experiment(made).tags[view])["selectedColumns"]
    assert "tags.`slateflow.verdict`" in columns
    # Tags follow the metrics: with five, the verdict was beyond the edge of a wide window
    assert sum(name.startswith("metrics.") for name in columns) < 4
