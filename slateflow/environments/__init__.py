"""The worlds: specs and presets, RecSim itself, and the batched simulators."""

from slateflow.environments.batched import (
    BatchedInterestEvolution,
    BatchedInterestExploration,
    BatchedLongTermSatisfaction,
    batched_environment,
)
from slateflow.environments.batched_base import BatchedEnvironment
from slateflow.environments.interest_specs import InterestEvolutionSpec, InterestExplorationSpec
from slateflow.environments.observation import Observation
from slateflow.environments.presets import DEFAULT_PRESET, PRESETS, preset, spec_from_dict
from slateflow.environments.registration import register_gymnasium
from slateflow.environments.slates import SlateSpace
from slateflow.environments.spec import EnvironmentSpec, LongTermSatisfactionSpec

__all__ = [
    "DEFAULT_PRESET",
    "PRESETS",
    "BatchedEnvironment",
    "BatchedInterestEvolution",
    "BatchedInterestExploration",
    "BatchedLongTermSatisfaction",
    "EnvironmentSpec",
    "InterestEvolutionSpec",
    "InterestExplorationSpec",
    "LongTermSatisfactionSpec",
    "Observation",
    "SlateSpace",
    "batched_environment",
    "preset",
    "register_gymnasium",
    "spec_from_dict",
]
