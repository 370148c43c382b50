"""Parameters of the flows: their forms in the Prefect UI, and seeds of nights."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("name", ["pipeline", "generate", "train", "tune", "evaluate", "register"])
def test_the_forms_explain_every_parameter(name):
    from importlib import import_module

    from prefect.utilities.callables import parameter_schema

    flow = getattr(import_module(f"flows.{name}"), name)
    schema = parameter_schema(flow.fn).model_dump()["properties"]
    for parameter, field in schema.items():
        assert field.get("description"), parameter
    if "recipe" in schema:
        assert "modified-lts-20-2-mixed" in schema["recipe"]["enum"]
    if "experiment" in schema:
        assert "modified-lts-20-2-mixed" in schema["experiment"]["anyOf"][0]["enum"]
    if "learners" in schema:
        assert "fitted-q" in schema["learners"]["anyOf"][0]["items"]["enum"]
    if "evaluation_episodes" in schema:
        assert schema["evaluation_episodes"]["minimum"] == 2
    if "recsim_episodes" in schema:
        none, some = schema["recsim_episodes"]["anyOf"]
        assert (none["const"], some["minimum"]) == (0, 2)


def test_a_learner_is_given_once():
    from prefect.utilities.callables import parameter_schema
    from prefect.utilities.schema_tools.validation import validate

    from flows.pipeline import pipeline

    schema = parameter_schema(pipeline.fn).model_dump_for_openapi()
    assert validate({"learners": ["bc", "linucb"]}, schema) == []
    assert len(validate({"learners": ["linucb", "linucb"]}, schema)) == 1


def test_a_nightly_seed_is_the_scheduled_day(monkeypatch):
    from datetime import UTC, datetime

    from flows.parameters import resolve_seed

    monkeypatch.setattr(
        "flows.parameters.flow_run",
        type("Run", (), {"scheduled_start_time": datetime(2026, 11, 24, 3, tzinfo=UTC)}),
    )
    assert resolve_seed("date") == 20261124
    assert resolve_seed("hour") == 2026112403 < 2**32  # more, and RLlib refuses it
    assert resolve_seed(5) == 5
    assert resolve_seed(None) is None
