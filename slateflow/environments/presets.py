"""The presets under their public names, and specs from what was stored of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from slateflow.environments.interest_specs import InterestEvolutionSpec, InterestExplorationSpec
from slateflow.environments.spec import EnvironmentSpec, LongTermSatisfactionSpec
from slateflow.errors import InputError, unknown

_MODIFIED: dict[str, Any] = {
    "sensitivity": 0.058,
    "time_budget": 120,
    "choc_stddev": 0.1,
    "kale_stddev": 0.1,
}

PRESETS: dict[str, EnvironmentSpec] = {
    spec.name: spec
    for spec in (
        LongTermSatisfactionSpec(
            "modified-lts-20-2", 20, 2, satisfaction_observed=True, **_MODIFIED
        ),
        LongTermSatisfactionSpec(
            "modified-lts-10-1", 10, 1, satisfaction_observed=True, **_MODIFIED
        ),
        LongTermSatisfactionSpec("modified-lts-20-2-hidden", 20, 2, **_MODIFIED),
        LongTermSatisfactionSpec("lts-20-2", 20, 2),
        LongTermSatisfactionSpec("lts-10-1", 10, 1),
        InterestEvolutionSpec("interest-evolution", 10, 3),
        InterestExplorationSpec("interest-exploration", 10, 3),
    )
}
DEFAULT_PRESET = "modified-lts-20-2"


def preset(name: str, /, **overrides: Any) -> EnvironmentSpec:
    """The preset of that name, with some fields replaced.

    Raises:
        InputError: The preset or a field does not exist, or a value does not fit.

    Example:
        >>> preset("modified-lts-20-2", num_candidates=5).num_candidates
        5
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown("environment", name, list(PRESETS))
    spec = PRESETS[name]
    fields = [field.name for field in dataclasses.fields(spec) if field.name != "name"]
    for key in overrides:
        if key not in fields:
            raise unknown("environment parameter", key, fields)
    return dataclasses.replace(spec, **overrides)


def spec_from_dict(document: dict[str, Any]) -> EnvironmentSpec:
    """The inverse of `EnvironmentSpec.to_dict`, for specs that were stored with a dataset."""
    if not isinstance(document, dict):
        raise InputError(f"environment spec: expected a table of fields, got {document!r}")
    fields = {key: value for key, value in document.items() if key != "world"}
    worlds = {spec.world: type(spec) for spec in PRESETS.values()}
    if document.get("world") not in worlds:
        raise unknown("world", document.get("world"), list(worlds))
    try:
        return worlds[document["world"]](**fields)
    except TypeError as error:
        raise InputError(f"environment spec: {error}") from error
