"""Presets, overrides, and specs as JSON."""

from __future__ import annotations

import json

import pytest

from slateflow.environments import PRESETS, preset, spec_from_dict
from slateflow.errors import InputError


def test_presets_are_the_worlds_that_were_published():
    modified = {"sensitivity": 0.058, "time_budget": 120, "choc_stddev": 0.1, "kale_stddev": 0.1}
    recsims = {"sensitivity": 0.01, "time_budget": 60, "choc_stddev": 1.0, "kale_stddev": 1.0}
    for name, (candidates, places), values, observed in [
        ("modified-lts-20-2", (20, 2), modified, True),
        ("modified-lts-10-1", (10, 1), modified, True),
        ("lts-20-2", (20, 2), recsims, False),
        ("lts-10-1", (10, 1), recsims, False),
    ]:
        spec = PRESETS[name]
        assert (spec.num_candidates, spec.slate_size) == (candidates, places)
        assert {key: getattr(spec, key) for key in values} == values
        assert (spec.user_size, spec.horizon) == (int(observed), values["time_budget"])


@pytest.mark.parametrize("name", PRESETS)
def test_specs_make_the_round_trip_through_json(name):
    document = json.loads(json.dumps(PRESETS[name].to_dict()))
    assert spec_from_dict(document) == PRESETS[name]


def test_overrides_replace_fields_and_nothing_else():
    spec = preset("lts-10-1", choc_mean=4)
    assert {
        key for key, value in spec.to_dict().items() if PRESETS["lts-10-1"].to_dict()[key] != value
    } == {"choc_mean"}


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("lts", {}, "unknown environment 'lts': expected one of modified-lts-20-2, "),
        (["lts-10-1"], {}, r"unknown environment \['lts-10-1'\]"),
        ("lts-10-1", {"x": 1}, "unknown environment parameter 'x': expected one of num_candidates"),
        ("lts-10-1", {"name": "y"}, "unknown environment parameter 'name'"),
        ("lts-10-1", {"num_candidates": 1.5}, "num_candidates: expected int, got 1.5"),
        ("lts-10-1", {"num_candidates": True}, "num_candidates: expected int, got True"),
        ("lts-10-1", {"num_candidates": 0}, "num_candidates: expected at least slate_size"),
        ("lts-10-1", {"slate_size": 0}, "slate_size: expected at least 1, got 0"),
        ("lts-10-1", {"resample_documents": 1}, "resample_documents: expected bool, got 1"),
        ("lts-10-1", {"choc_mean": "5"}, "choc_mean: expected float, got '5'"),
        ("lts-10-1", {"choc_stddev": -0.1}, "choc_stddev: expected 0 or more, got -0.1"),
        ("lts-10-1", {"kale_stddev": -1}, "kale_stddev: expected 0 or more, got -1"),
        ("lts-10-1", {"innovation_stddev": -1}, "innovation_stddev: expected 0 or more, got -1"),
        ("lts-10-1", {"memory_discount": 1}, r"memory_discount: expected \[0, 1\), got 1"),
        ("lts-10-1", {"memory_discount": -0.1}, r"memory_discount: expected \[0, 1\), got -0.1"),
        ("lts-10-1", {"time_budget": 0}, "time_budget: expected at least 1, got 0"),
    ],
)
def test_bad_worlds_are_refused(name, overrides, message):
    with pytest.raises(InputError, match=message):
        preset(name, **overrides)


@pytest.mark.parametrize("parameter", ["choc_mean", "sensitivity", "memory_discount"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_have_to_be_finite(parameter, value):
    with pytest.raises(InputError, match=parameter):
        preset("lts-10-1", **{parameter: value})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"world": "mars"}, "unknown world 'mars': expected one of long_term_satisfaction"),
        ({}, "unknown world None"),
        ("lts-10-1", "environment spec: expected a table of fields, got 'lts-10-1'"),
        ({"world": "long_term_satisfaction", "name": "x"}, "environment spec: .*num_candidates"),
    ],
)
def test_foreign_documents_are_refused(document, message):
    with pytest.raises(InputError, match=message):
        spec_from_dict(document)
