"""A search for a learner's settings: a study is an MLflow run, and each trial a run below it.

A study that was killed finds its finished trials in MLflow.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task

from slateflow.learners import LEARNERS, learner_config
from slateflow.trajectories import Dataset
from slateflow.tuning.study import StudyDesign, run_trials
from slateflow.tuning.trial import Trial, best_trial, draw_settings
from tasks.experiment import Experiment, held_in
from tasks.reports.study import StudyReport, TrialSummary
from tasks.server.progress import stage_with_artifact
from tasks.store.tracking import (
    code_commit,
    dataset_input,
    experiment_id,
    mlflow_client,
    require_experiment,
)
from tasks.store.training_run import failing
from tasks.train import CHECKPOINTS

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TRIAL = "slateflow.trial"
"""Tag with all of a finished trial."""


@task(task_run_name="tune {learner} on {experiment.dataset.name}")
def tune_learner(
    experiment: Experiment, learner: str, trials: int, workers: int | None = None
) -> StudyReport:
    """Run the missing trials of a study, and choose the best of all."""
    seed = experiment.seed
    settings = {number: draw_settings(learner, number, seed) for number in range(trials)}
    client, dataset = mlflow_client(), experiment.open_dataset()
    study = Study(client, experiment.recipe, dataset, learner, seed)
    done = {trial.number: (trial, run_id) for trial, run_id in study.finished()}
    progress = stage_with_artifact(
        f"tune {learner}",
        f"tune-{learner}-{experiment.recipe}",
        f"tune {learner} on {experiment.dataset.name}",
    )

    def finished(trial: Trial) -> None:
        done[trial.number] = (trial, study.log(trial))
        progress(sum(number in done for number in settings), trials)

    missing = {number: drawn for number, drawn in settings.items() if number not in done}
    with failing(client, study.run_id):
        if missing:
            checkpoints = CHECKPOINTS.absolute()
            design = StudyDesign(dataset, held_in(dataset), learner, seed, checkpoints)
            run_trials(design, missing, workers, finished)
        chosen = [done[number] for number in settings]
        best = best_trial([trial for trial, _ in chosen])
        study.close(best)
    progress(trials, trials)
    get_run_logger().info("%s: trial %d of %d, %s", learner, best.number, trials, best.settings)
    return StudyReport(
        learner=learner,
        dataset=experiment.dataset,
        seed=seed,
        trials=[
            TrialSummary.model_validate({**vars(trial), "run_id": run_id})
            for trial, run_id in chosen
        ],
        best=best.number,
        run_id=study.run_id,
    )


class Study:
    """The parent run of a dataset's, learner's and seed's trials, made where it is missing."""

    def __init__(
        self, client: MlflowClient, recipe: str, dataset: Dataset, learner: str, seed: int
    ) -> None:
        self.client = client
        require_experiment(client, recipe)
        self.experiment = experiment_id(client, recipe)
        # Trials of other code, or where other settings are searched, are others
        defaults = learner_config(learner).training_digest(dataset, seed)
        identity = [defaults, repr(LEARNERS[learner].search_space)]
        self.key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        self.tags = {
            "slateflow.environment": dataset.spec.name,
            "slateflow.code_commit": code_commit(),
        }
        known = self._runs(f"tags.`slateflow.study` = '{self.key}'")
        if known:
            self.run_id = str(known[0].info.run_id)
            client.update_run(self.run_id, status="RUNNING")
            return
        run = client.create_run(
            self.experiment,
            run_name=f"tune-{learner}-{recipe}",
            tags={**self.tags, "slateflow.study": self.key},
        )
        self.run_id = str(run.info.run_id)
        for name, value in {"learner": learner, "seed": seed}.items():
            client.log_param(self.run_id, name, value)
        client.log_inputs(self.run_id, datasets=[dataset_input(dataset)])

    def _runs(self, query: str) -> list[Any]:
        at_most = 50_000  # the most that MLflow gives in a page
        experiments, order = [self.experiment], ["start_time ASC"]
        found = self.client.search_runs(experiments, query, max_results=at_most, order_by=order)
        return list(found)

    def finished(self) -> list[tuple[Trial, str]]:
        """The trials so far, with their runs; those that a killed study left open are closed."""
        found = []
        for run in self._runs(f"tags.`mlflow.parentRunId` = '{self.run_id}'"):
            if TRIAL in run.data.tags:
                found.append((Trial(**json.loads(run.data.tags[TRIAL])), str(run.info.run_id)))
            elif run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")
        return found

    def log(self, trial: Trial) -> str:
        """A finished trial as a run below the study; its tag comes last, and makes it count."""
        from mlflow.entities import Metric, Param

        end = int(time.time() * 1000)
        run = self.client.create_run(
            self.experiment,
            start_time=end - int(1000 * trial.train_seconds),
            run_name=f"trial-{trial.number:03d}",
            tags={**self.tags, "mlflow.parentRunId": self.run_id},
        )
        run_id = str(run.info.run_id)
        values = {"held_out_value": trial.value, "train_seconds": trial.train_seconds}
        self.client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in trial.settings.items()],
            metrics=[Metric(k, v, end, 0) for k, v in values.items() if v is not None],
        )
        self.client.set_terminated(run_id, "FAILED" if trial.error else "FINISHED")
        self.client.set_tag(run_id, TRIAL, json.dumps(vars(trial)))
        return run_id

    def close(self, best: Trial) -> None:
        """End the study, whose trials are all there, with the best of them."""
        assert best.value is not None
        self.client.log_metric(self.run_id, "held_out_value", best.value)
        self.client.set_tag(self.run_id, "slateflow.best_trial", str(best.number))
        self.client.set_tag(self.run_id, "slateflow.best_settings", json.dumps(best.settings))
        self.client.set_terminated(self.run_id, "FINISHED")
