"""The parameters of long-term satisfaction."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slateflow.environments.spec import EnvironmentSpec, Steps
from slateflow.validation import validated

Deviation = Annotated[float, Field(ge=0)]


@validated
class LongTermSatisfactionSpec(EnvironmentSpec):
    """Parameters of long-term satisfaction: chocolate is clicked now, kale keeps the user.

    Field names and defaults are those of RecSim's `LTSStaticUserSampler`.
    """

    world: ClassVar[str] = "long_term_satisfaction"
    response_columns: ClassVar[tuple[str, ...]] = ("watch_time",)
    user_chooses: ClassVar[bool] = False
    document_size: ClassVar[int] = 1  # the clickbait score

    satisfaction_observed: bool = False  # whether the observation shows the user's satisfaction
    # Share of net positive exposure that is kept from step to step
    memory_discount: Annotated[float, Field(ge=0, lt=1)] = 0.7
    sensitivity: float = 0.01  # slope of satisfaction in net positive exposure
    innovation_stddev: Deviation = 0.05  # noise of net positive exposure at each step
    # Mean log watch time of a document with clickbait score 1, at satisfaction 1
    choc_mean: float = 5.0
    choc_stddev: Deviation = 1.0  # its standard deviation
    # Mean log watch time of a document with clickbait score 0, at satisfaction 1
    kale_mean: float = 4.0
    kale_stddev: Deviation = 1.0  # its standard deviation
    time_budget: Steps = 60  # steps in an episode

    @property
    def user_size(self) -> int:
        """1 where the satisfaction is observed."""
        return int(self.satisfaction_observed)

    @property
    def horizon(self) -> int:
        """The time budget: every click costs one."""
        return self.time_budget
