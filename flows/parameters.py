"""The types of the flows' parameters; the Prefect UI draws its forms from them.

Descriptions in the forms come from the flows' docstrings, which Prefect prefers to those of
fields.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from prefect.runtime import flow_run
from pydantic import BeforeValidator, Field, WithJsonSchema

from flows import bounds
from slateflow.learners import LEARNERS
from slateflow.trajectories import AnyRecipe
from slateflow.trajectories.generation.recipe import recipe_names
from slateflow.tuning.trial import tunable_learners
from tasks.experiment import Evidence, Experiment, ModelRef, find_experiment
from tasks.project import RECIPES

_RECIPE_SCHEMA = {"type": "string", "enum": recipe_names(RECIPES)}


RecipeOrName = Annotated[AnyRecipe | str, WithJsonSchema(_RECIPE_SCHEMA)]
PublishedExperiment = Annotated[
    Experiment,
    BeforeValidator(lambda one: find_experiment(one) if isinstance(one, str) else one),
    WithJsonSchema({"anyOf": [_RECIPE_SCHEMA, {"type": "object"}]}),
]
"""An experiment, or the name of a recipe whose dataset is published."""
Episodes = bounds.Episodes | None
Seed = bounds.Seed | Literal["date", "hour"] | None
_Learner = Annotated[str, Field(json_schema_extra={"enum": list(LEARNERS)})]
_ONCE = {"uniqueItems": True}
Learners = Annotated[list[_Learner], Field(min_length=1, json_schema_extra=_ONCE)] | None
Settings = dict[str, dict[str, Any]] | None
Models = Annotated[list[ModelRef], Field(min_length=1)]
DataURL = str | None
EvidenceOrDefault = Evidence | None
LogLearner = Annotated[str, Field(json_schema_extra={"enum": tunable_learners()})]


_MOMENTS = {"date": "%Y%m%d", "hour": "%Y%m%d%H"}


def resolve_seed(seed: int | Literal["date", "hour"] | None) -> int | None:
    """The scheduled day or hour as a number: `date` 2026-11-24 is 20261124, `hour` 2026112403."""
    if not isinstance(seed, str):
        return seed
    scheduled: datetime = flow_run.scheduled_start_time
    return int(scheduled.strftime(_MOMENTS[seed]))
