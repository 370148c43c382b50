"""Bounds of the numbers that flows and the command line take.

Separate from the flows' parameters, which import Prefect, for `--help` must not.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Episodes = Annotated[int, Field(ge=1)]
EvaluationEpisodes = Annotated[int, Field(ge=2)]
RecSimEpisodes = Annotated[int, Field(ge=0)]
Epsilon = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0)]
Workers = Annotated[int, Field(ge=1)]
Trials = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=2**16 - 1)]
