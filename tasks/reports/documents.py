"""What travels between tasks: typed references and the report, all of it plain JSON.

The report's fields are a contract; `slateflow run --json` prints it as it is.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class World(BaseModel):
    """Where a dataset's logs come from, and models are played.

    `parameters` are the fields of the world's spec that differ from the preset; `seed` is that of
    trainings and evaluations.
    """

    environment: str
    parameters: dict[str, Any] = {}
    seed: int = 0


class DatasetReference(BaseModel):
    """A published dataset."""

    path: str
    digest: str
    rows: int


class ModelReference(BaseModel):
    """A trained model: the MLflow run that holds its weights."""

    learner: str
    run_id: str
    train_seconds: float
    live_steps: int = 0


class TrialReport(BaseModel):
    """One trial of a study; `value` is its return on held-out episodes, None where it failed."""

    number: int
    settings: dict[str, int | float | str]
    value: float | None
    train_seconds: float
    run_id: str


class StudyReport(BaseModel):
    """A finished search for settings: the trials and the number of the best.

    `run_id` is the parent of the trials' runs.
    """

    learner: str
    dataset: DatasetReference
    seed: int
    trials: list[TrialReport]
    best: int
    run_id: str

    @property
    def best_trial(self) -> TrialReport:
        """The trial that held-out logs rate best."""
        return next(trial for trial in self.trials if trial.number == self.best)


class BaselineReport(BaseModel):
    """The policy that the candidates are compared with."""

    policy: str
    mean: float
    sem: float
    episodes: int


class CandidateReport(BaseModel):
    """One learner in the verdict; `ci` is the 95% interval of the uplift over random.

    `live_steps` counts what it was shown by live users while it learnt: 0 from logs alone.
    """

    learner: str
    mean: float
    sem: float
    uplift: float
    ci: tuple[float, float]
    p_value: float
    normalised: float | None
    train_seconds: float
    live_steps: int = 0
    winner: bool
    run_id: str


class ChampionReport(BaseModel):
    """The reigning champion, on the same users as the candidates."""

    version: int
    mean: float
    sem: float


class ReferenceReport(BaseModel):
    """The best candidate in RecSim's own code beside the batched simulator.

    `deviation` is the difference of the means in its standard errors.
    """

    learner: str
    batched: float
    batched_sem: float
    reference: float
    reference_sem: float
    episodes: int
    deviation: float


class VerdictReport(BaseModel):
    """What the evaluation found."""

    baseline: BaselineReport
    optimum: float | None
    champion: ChampionReport | None
    candidates: list[CandidateReport]
    reference: ReferenceReport | None = None

    @property
    def winner(self) -> CandidateReport | None:
        """The candidate to register, if there is one."""
        return next((candidate for candidate in self.candidates if candidate.winner), None)


class RegisteredVersion(BaseModel):
    """A version in the MLflow registry."""

    name: str
    version: int
    alias: str


class Registration(BaseModel):
    """What came of a verdict; it is another one if the champion changed in the meantime."""

    verdict: VerdictReport
    registered: RegisteredVersion | None

    @property
    def champion(self) -> ChampionReport | None:
        """The one that reigned before."""
        return self.verdict.champion

    @property
    def candidates(self) -> list[CandidateReport]:
        """All learners of the verdict."""
        return self.verdict.candidates


class PipelineReport(BaseModel):
    """The whole line in one document."""

    environment: str
    dataset: DatasetReference
    baseline: BaselineReport
    optimum: float | None
    champion: ChampionReport | None
    candidates: list[CandidateReport]
    registered: RegisteredVersion | None
