"""The types of the flows' parameters; the Prefect UI draws its forms from them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from prefect.runtime import flow_run
from pydantic import Field

from slateflow.environments import PRESETS
from slateflow.learners import LEARNERS
from slateflow.learners.search_space import SPACES

Environment = Annotated[
    str,
    Field(
        description="Preset of the world, and name of the recipe in `datasets`.",
        json_schema_extra={"enum": list(PRESETS)},
    ),
]
Episodes = Annotated[
    int | None,
    Field(gt=0, description="Episodes of the dataset, instead of the recipe's."),
]
Seed = Annotated[
    Annotated[int, Field(ge=0)] | Literal["date"] | None,
    Field(
        description="Seed of data, training and evaluation, instead of the recipe's; "
        "`date` takes the scheduled day as a number, so that every night has new logs."
    ),
]
Learners = Annotated[
    Annotated[
        list[Annotated[str, Field(json_schema_extra={"enum": list(LEARNERS)})]],
        Field(min_length=1),
    ]
    | None,
    Field(description="Learners to train; default those that are made for the world."),
]
EvaluationEpisodes = Annotated[
    int, Field(gt=1, description="Episodes that each policy plays in the evaluation.")
]
DataURL = Annotated[
    str | None,
    Field(description="Folder of the datasets, or a URL of pyarrow.fs; default `datasets`."),
]
LogLearner = Annotated[
    str, Field(description="Learner to tune.", json_schema_extra={"enum": list(SPACES)})
]
Trials = Annotated[int, Field(gt=0, description="Trials in all; the first has the defaults.")]
Processes = Annotated[
    Annotated[int, Field(gt=0)] | None,
    Field(description="Trials at a time; default one for every processor."),
]
Workers = Annotated[int, Field(gt=0, description="Processes that simulate.")]


def resolve_seed(seed: int | Literal["date"] | None) -> int | None:
    """`date` as the day for which the run was scheduled: 2026-11-24 is 20261124."""
    if seed != "date":
        return seed
    scheduled: datetime = flow_run.scheduled_start_time
    return int(scheduled.strftime("%Y%m%d"))
