"""A finished search for a learner's settings."""

from __future__ import annotations

from pydantic import BaseModel

from tasks.experiment import DatasetRef


class TrialSummary(BaseModel):
    """A trial of a study; `value` is its return on held-out episodes, None with an `error`."""

    number: int
    settings: dict[str, int | float | str]
    value: float | None
    train_seconds: float
    run_id: str
    error: str = ""


class StudyReport(BaseModel):
    """The trials of a study and the number of the best.

    `run_id` is the parent of the trials' runs.
    """

    learner: str
    dataset: DatasetRef
    seed: int
    trials: list[TrialSummary]
    best: int
    run_id: str

    @property
    def best_trial(self) -> TrialSummary:
        """The trial with the highest value on held-out logs."""
        return next(trial for trial in self.trials if trial.number == self.best)
