"""The worlds: specs and presets, RecSim itself, and the batched simulators."""

from slateflow.environments.observation import Observation
from slateflow.environments.simulator import BatchedEnvironment
from slateflow.environments.slates import SlateSpace
from slateflow.environments.spec import EnvironmentSpec
from slateflow.environments.worlds import (
    DEFAULT_PRESET,
    WORLDS,
    World,
    batched_environment,
    optimal_return,
    preset,
    presets,
    recsim_environment,
    spec_from_dict,
    world_of,
)

__all__ = [
    "DEFAULT_PRESET",
    "WORLDS",
    "BatchedEnvironment",
    "EnvironmentSpec",
    "Observation",
    "SlateSpace",
    "World",
    "batched_environment",
    "optimal_return",
    "preset",
    "presets",
    "recsim_environment",
    "spec_from_dict",
    "world_of",
]
