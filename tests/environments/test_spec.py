"""Presets, overrides, and specs as JSON."""

from __future__ import annotations

import json

import pytest

from slateflow.environments import EnvironmentSpec, preset, presets, spec_from_dict
from slateflow.environments.recsim_import import load_recsim
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
        spec = presets()[name]
        assert (spec.num_candidates, spec.slate_size) == (candidates, places)
        assert {key: getattr(spec, key) for key in values} == values
        assert (spec.user_size, spec.horizon) == (int(observed), values["time_budget"])


def test_interest_exploration_has_recsims_defaults():
    spec = presets()["interest-exploration"]
    assert (spec.num_candidates, spec.slate_size, spec.horizon) == (10, 3, 300)
    assert (spec.user_size, spec.document_size) == (0, 3)
    recsim = load_recsim().interest_exploration
    users = recsim.IEClusterUserSampler()
    assert spec.user_type_distribution == users._user_type_dist
    assert spec.user_document_mean_affinity_matrix == users._user_doc_means
    assert spec.user_document_stddev_affinity_matrix == users._user_doc_stddev
    documents = recsim.IETopicDocumentSampler()
    assert spec.topic_distribution == documents._topic_dist
    assert spec.topic_quality_mean == documents._topic_quality_mean
    assert spec.topic_quality_stddev == documents._topic_quality_stddev
    model = recsim.IEUserModel(3, user_state_ctor=recsim.IEUserState, response_model_ctor=object)
    assert spec.no_click_mass == model.choice_model._no_click_mass


def test_interest_evolution_has_recsims_defaults():
    spec = presets()["interest-evolution"]
    assert (spec.num_candidates, spec.slate_size, spec.horizon) == (10, 3, 400)
    assert (spec.user_size, spec.document_size) == (20, 20)
    recsim = load_recsim().interest_evolution
    user = recsim.UtilityModelUserSampler().sample_user()
    for name in (
        "time_budget",
        "step_penalty",
        "user_update_alpha",
        "user_quality_factor",
        "document_quality_factor",
    ):
        assert getattr(spec, name) == getattr(user, name)
    for name in ("no_click_mass", "min_normalizer"):
        assert getattr(spec, name) == user.choice_features[name]
    model = recsim.IEvUserModel(3, choice_model_ctor=dict)
    for name in ("alpha_x_intercept", "alpha_y_intercept"):
        assert getattr(spec, name) == getattr(model, f"_{name}")
    documents = recsim.UtilityModelVideoSampler()
    for name in ("min_utility", "max_utility", "video_length"):
        assert getattr(spec, name) == getattr(documents, f"_{name}")
    assert spec.num_features == recsim.IEvVideo.NUM_FEATURES == recsim.IEvUserState.NUM_FEATURES


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_features": 0}, "num_features: expected at least 1, got 0"),
        ({"num_features": 21}, "num_features: expected a multiple of 10, got 21"),
        ({"num_features": 32_770}, "num_features: expected at most 32760, got 32770"),
        ({"time_budget": 0}, "time_budget: expected more than 0, got 0"),
        ({"time_budget": float("nan")}, "time_budget: expected a finite number, got nan"),
        ({"video_length": -1}, "video_length: expected more than 0, got -1"),
        ({"alpha_x_intercept": 0}, "alpha_x_intercept: expected more than 0, got 0"),
        ({"step_penalty": -0.5}, "step_penalty: expected at least 0, got -0.5"),
        ({"min_normalizer": -0.9}, "min_normalizer: expected at most -1, got -0.9"),
        ({"no_click_mass": -1}, r"no_click_mass: expected more than min_normalizer \(-1.0\)"),
        ({"step_limit": 0}, "step_limit: expected at least 1, got 0"),
        ({"min_utility": "low"}, "min_utility: expected a number, got 'low'"),
    ],
)
def test_bad_evolutions_are_refused_in_one_line(overrides, message):
    with pytest.raises(InputError, match=message) as refused:
        preset("interest-evolution", **overrides)
    assert "\n" not in str(refused.value)


def test_lists_of_toml_are_the_tuples_of_the_spec():
    lists = {"topic_quality_mean": [0.5, 1], "user_document_mean_affinity_matrix": [[1, 2], [3, 4]]}
    spec = preset("interest-exploration", **lists)
    assert spec.topic_quality_mean == (0.5, 1)
    assert spec.user_document_mean_affinity_matrix == ((1, 2), (3, 4))
    assert {key: spec.to_dict()[key] for key in lists} == lists
    assert hash(spec) == hash(spec_from_dict(json.loads(json.dumps(spec.to_dict()))))


@pytest.mark.parametrize("name", presets())
def test_specs_make_the_round_trip_through_json(name):
    document = json.loads(json.dumps(presets()[name].to_dict()))
    assert spec_from_dict(document) == presets()[name]


def test_overrides_replace_fields_and_nothing_else():
    spec = preset("lts-10-1", choc_mean=4)
    assert {
        key
        for key, value in spec.to_dict().items()
        if presets()["lts-10-1"].to_dict()[key] != value
    } == {"choc_mean"}


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("lts", {}, "unknown environment 'lts': expected one of modified-lts-20-2, "),
        (["lts-10-1"], {}, r"unknown environment \['lts-10-1'\]"),
        ("lts-10-1", {"x": 1}, "unknown environment parameter 'x': expected one of num_candidates"),
        ("lts-10-1", {"name": "y"}, "unknown environment parameter 'name'"),
        ("lts-10-1", {"num_candidates": 1.5}, "num_candidates: expected a whole number, got 1.5"),
        ("lts-10-1", {"num_candidates": True}, "num_candidates: expected a whole number, got True"),
        ("lts-10-1", {"num_candidates": 0}, "num_candidates: expected at least slate_size"),
        ("lts-10-1", {"slate_size": 0}, "slate_size: expected at least 1, got 0"),
        (
            "lts-10-1",
            {"resample_documents": 1},
            "resample_documents: expected true or false, got 1",
        ),
        ("lts-10-1", {"choc_mean": "5"}, "choc_mean: expected a number, got '5'"),
        ("lts-10-1", {"choc_stddev": -0.1}, "choc_stddev: expected at least 0, got -0.1"),
        ("lts-10-1", {"kale_stddev": -1}, "kale_stddev: expected at least 0, got -1"),
        ("lts-10-1", {"innovation_stddev": -1}, "innovation_stddev: expected at least 0, got -1"),
        ("lts-10-1", {"memory_discount": 1}, "memory_discount: expected less than 1, got 1"),
        ("lts-10-1", {"memory_discount": -0.1}, "memory_discount: expected at least 0, got -0.1"),
        ("lts-10-1", {"time_budget": 0}, "time_budget: expected at least 1, got 0"),
    ],
)
def test_bad_worlds_are_refused(name, overrides, message):
    with pytest.raises(InputError, match=message):
        preset(name, **overrides)


MEANS, DEVIATIONS = (
    "user_document_mean_affinity_matrix",
    "user_document_stddev_affinity_matrix",
)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"step_limit": 0}, "step_limit: expected at least 1, got 0"),
        ({"step_limit": 2.5}, "step_limit: expected a whole number, got 2.5"),
        ({"topic_distribution": 1}, "topic_distribution: expected a list, got 1"),
        ({"topic_distribution": []}, r"topic_distribution: expected at least 1 entries, got \[\]"),
        ({"topic_distribution": ["1"]}, "topic_distribution.0: expected a number, got '1'"),
        (
            {"topic_distribution": [0.5, 0.6]},
            r"topic_distribution: expected shares that add up to 1, got \[0.5, 0.6\]",
        ),
        ({"topic_distribution": [-1, 2]}, "topic_distribution: expected shares that add up to 1"),
        ({"user_type_distribution": [0.3, 0.3]}, "user_type_distribution: expected shares that"),
        (
            {"user_type_distribution": [1.0]},
            f"{MEANS}: expected 1 rows, one for each",
        ),
        ({"topic_quality_mean": [1]}, "topic_quality_mean: expected 2 numbers"),
        (
            {"topic_quality_mean": [1, float("inf")]},
            "topic_quality_mean.1: expected a finite",
        ),
        (
            {"topic_quality_stddev": [1]},
            "topic_quality_stddev: expected 2 numbers",
        ),
        ({"topic_quality_stddev": [1, -1]}, "topic_quality_stddev: expected 0 or more, got"),
        ({MEANS: [1, 2]}, f"{MEANS}.0: expected a list, got 1"),
        ({MEANS: 1}, f"{MEANS}: expected a list, got 1"),
        ({MEANS: [[1], [2]]}, f"{MEANS}: expected 2 numbers, one for each topic"),
        ({DEVIATIONS: [[1, 1]]}, f"{DEVIATIONS}: expected 2 rows, one for each user type, got 1"),
        ({DEVIATIONS: [[1, -1], [1, 1]]}, f"{DEVIATIONS}: expected 0 or more, got"),
    ],
)
def test_bad_explorations_are_refused_in_one_line(overrides, message):
    with pytest.raises(InputError, match=message) as refused:
        preset("interest-exploration", **overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("parameter", ["choc_mean", "sensitivity", "memory_discount"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_have_to_be_finite(parameter, value):
    with pytest.raises(InputError, match=parameter):
        preset("lts-10-1", **{parameter: value})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"world": "mars"}, "unknown world 'mars': expected one of long_term_satisfaction"),
        ({}, "unknown world ''"),
        ("lts-10-1", "environment spec: expected a table of fields, got 'lts-10-1'"),
        (
            {"world": "long_term_satisfaction", "name": "x"},
            "num_candidates: expected a value",
        ),
    ],
)
def test_foreign_documents_are_refused(document, message):
    with pytest.raises(InputError, match=message):
        spec_from_dict(document)


def test_a_world_has_to_say_what_it_observes():
    missing = "document_size.*horizon.*user_size"
    with pytest.raises(TypeError, match=missing):
        EnvironmentSpec("half", 2, 1)
