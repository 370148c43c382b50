"""The worlds: specs and presets, RecSim itself, and the batched simulators."""

from slateflow.environments.batched import BatchedLongTermSatisfaction, Observation
from slateflow.environments.spec import (
    DEFAULT_PRESET,
    PRESETS,
    EnvironmentSpec,
    LongTermSatisfactionSpec,
    preset,
    spec_from_dict,
)

__all__ = [
    "DEFAULT_PRESET",
    "PRESETS",
    "BatchedLongTermSatisfaction",
    "EnvironmentSpec",
    "LongTermSatisfactionSpec",
    "Observation",
    "preset",
    "spec_from_dict",
]
