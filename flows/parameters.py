"""The types of the flows' parameters; the Prefect UI draws its forms from them.

What the form says of a parameter is taken from the flow's docstring: Prefect puts that in the
place of a field's own description.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from prefect.runtime import flow_run
from pydantic import Field

from slateflow.environments import presets
from slateflow.learners import LEARNERS
from slateflow.tuning.draws import tunable_learners
from tasks.reports.documents import ModelReference

Environment = Annotated[str, Field(json_schema_extra={"enum": list(presets())})]
Episodes = Annotated[int | None, Field(gt=0)]
EvaluationEpisodes = Annotated[int, Field(gt=1)]
ReferenceEpisodes = Annotated[int, Field(ge=0)]
WholeSeed = Annotated[int, Field(ge=0)]
Seed = Annotated[WholeSeed | Literal["date", "hour"] | None, Field()]
DatasetPath = Annotated[str, Field(min_length=1)]
DatasetDigest = Annotated[str | None, Field(pattern="^sha256:[0-9a-f]{64}$")]
_Learner = Annotated[str, Field(json_schema_extra={"enum": list(LEARNERS)})]
Learners = Annotated[Annotated[list[_Learner], Field(min_length=1)] | None, Field()]
Settings = dict[str, dict[str, Any]] | None
SpecParameters = dict[str, Any] | None
Models = Annotated[list[ModelReference], Field(min_length=1)]
DataURL = str | None
Workers = Annotated[int, Field(gt=0)]
LogLearner = Annotated[str, Field(json_schema_extra={"enum": tunable_learners()})]
Trials = Annotated[int, Field(gt=0)]
Processes = Annotated[Annotated[int, Field(gt=0)] | None, Field()]

_MOMENTS = {"date": "%Y%m%d", "hour": "%Y%m%d%H"}


def resolve_seed(seed: int | Literal["date", "hour"] | None) -> int | None:
    """`date` as the day for which the run was scheduled: 2026-11-24 is 20261124; `hour` goes on."""
    if not isinstance(seed, str):
        return seed
    scheduled: datetime = flow_run.scheduled_start_time
    return int(scheduled.strftime(_MOMENTS[seed]))
