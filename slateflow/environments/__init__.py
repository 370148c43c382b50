"""The worlds: specs and presets, RecSim itself, and the batched simulators."""

from slateflow.environments.batched import (
    BatchedLongTermSatisfaction,
    Observation,
    batched_environment,
)
from slateflow.environments.registration import register_gymnasium
from slateflow.environments.slates import SlateSpace
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
    "SlateSpace",
    "batched_environment",
    "preset",
    "register_gymnasium",
    "spec_from_dict",
]
