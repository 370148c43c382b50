"""Bounds of the numbers that flows and the command line take.

Separate from the flows' parameters, which import Prefect, for `--help` must not.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slateflow.validation import Episodes as Episodes
from slateflow.validation import Seed as Seed

EvaluationEpisodes = Annotated[int, Field(ge=2, le=1_000_000)]
RecSimEpisodes = Literal[0] | EvaluationEpisodes
Epsilon = Annotated[float, Field(ge=0, le=1)]
Workers = Annotated[int, Field(ge=1)]
Trials = Annotated[int, Field(ge=1, le=10_000)]
Days = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=2**16 - 1)]
