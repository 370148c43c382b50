"""The whole pipeline on Prefect's test API and a new MLflow store."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tasks.experiment
from slateflow.environments import preset
from slateflow.environments.long_term_satisfaction.simulator import BatchedLongTermSatisfaction
from slateflow.learners import learner_config
from slateflow.policies import Scorer, ScoringPolicy
from slateflow.trajectories import Dataset
from tests.flows.conftest import EPISODES, SEED
from tests.flows.report_page import check_tables, check_trend, first_chart, texts

MODEL = "slateflow-modified-lts-20-2"
PUBLISHED_RANDOM = 1157.81  # exact dynamics
SWEETEST_SCORE = (1163.66 - 1157.81) / (1195.80 - 1157.81)


def test_the_report_is_the_documented_json(report):
    document = report.document()
    assert list(document) == [
        "recipe", "environment", "evidence", "dataset", "baseline", "logged",
        "logging_policies", "optimum", "champion",
        "candidates", "no_verdict", "registered",
    ]  # fmt: skip
    assert list(document["dataset"]) == ["path", "digest", "rows"]
    assert list(document["baseline"]) == ["policy", "mean", "sem", "episodes"]
    assert set(document["candidates"][0]) == {
        "learner", "mean", "sem", "uplift", "ci", "p_value", "over_champion", "over_logged",
        "score", "score_ci",
        "verdict", "overlap", "no_verdict", "train_seconds", "live_steps", "run_id",
    }  # fmt: skip
    assert document["recipe"] == document["environment"] == "modified-lts-20-2"
    assert document["evidence"] == "played"
    assert document["no_verdict"] is None
    assert document["logged"]["policy"] == "greedy"
    assert document["logged"]["mean"] == pytest.approx(1163.66, abs=1.5)
    assert [one["policy"] for one in document["logging_policies"]] == ["greedy", "random"]
    assert document["candidates"][0]["over_logged"]["ci"][0] > 0
    assert document["candidates"][0]["overlap"]["unsupported"] == 0.0
    assert abs(document["optimum"]["mean"] - 1195.80) < 4 * document["optimum"]["sem"]
    low, high = document["candidates"][0]["score_ci"]
    assert low < document["candidates"][0]["score"] < high < low + 0.1
    assert document["dataset"]["rows"] == EPISODES * 120
    assert document["registered"] == {"name": MODEL, "version": 1, "alias": "champion"}
    assert json.loads(json.dumps(document)) == document


def test_fitted_q_wins_and_the_bandits_find_the_sweetest(report):
    scores = {c.learner: c.score for c in report.candidates}
    assert [c.learner for c in report.candidates if c.verdict == "winner"] == ["fitted-q"]
    assert scores["fitted-q"] > 0.9
    assert scores["linucb"] == pytest.approx(SWEETEST_SCORE, abs=0.03)
    assert scores["lints"] == pytest.approx(SWEETEST_SCORE, abs=0.03)
    assert report.baseline.mean == pytest.approx(PUBLISHED_RANDOM, abs=4 * report.baseline.sem)
    assert abs(report.optimum.mean - 1195.80) < 4 * report.optimum.sem


def test_the_dataset_is_published_and_whole(report):
    dataset = Dataset.open(report.experiment.dataset.path).verify()
    assert dataset.digest == report.experiment.dataset.digest
    assert dataset.recipe["seed"] == SEED


def test_runs_and_tasks_carry_names_a_person_can_read(report):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as prefect:
        flows = {run.name for run in prefect.read_flow_runs()}
        tasks = {run.name for run in prefect.read_task_runs()}
    name = f"modified-lts-20-2.episodes-{EPISODES}.seed-{SEED}"
    assert {
        "pipeline modified-lts-20-2: promoted", "generate modified-lts-20-2", f"train on {name}",
        "evaluate modified-lts-20-2: winner", "register modified-lts-20-2: promoted",
    } <= flows  # fmt: skip
    assert {
        f"generate {name}", f"train linucb on {name}", f"train fitted-q on {name}",
        "evaluate modified-lts-20-2",
        "register modified-lts-20-2", "report modified-lts-20-2",
    } <= tasks  # fmt: skip


def test_the_report_artifact_shows_the_table_and_a_chart(report):
    from prefect.artifacts import Artifact

    artifact = Artifact.get("slateflow-modified-lts-20-2")
    assert artifact is not None
    markdown = str(artifact.data)
    for candidate in report.candidates:
        row = f"| {candidate.learner} | {candidate.verdict} | {candidate.mean:.2f} ± "
        assert row in markdown
    assert "fitted-q wins, registered as version 1" in markdown
    best = report.candidates[0]
    decisive = f"{best.uplift:+.2f} [{best.ci[0]:.2f}, {best.ci[1]:.2f}]"
    assert f"**{best.learner}: {decisive} over random**" in markdown
    chart = first_chart(markdown)
    labels = texts(chart)
    assert {"fitted-q", "linucb", "marwil", "random", "over random (95%)", decisive} <= set(labels)
    policies = [label for label in labels if not set(label) & set("[(") and " 1" not in label]
    circles = {
        label: float(circle.attrib["cx"])
        for label, circle in zip(
            policies,
            chart.iter("{http://www.w3.org/2000/svg}circle"),
            strict=True,
        )
    }
    assert circles["random"] < circles["linucb"] < circles["fitted-q"]


def test_every_training_is_a_run_with_parameters_curve_dataset_and_commit(report, client):
    for candidate in report.candidates:
        run = client.get_run(candidate.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params["learner"] == candidate.learner
        assert run.data.params["seed"] == str(SEED)
        assert run.data.tags["slateflow.dataset_digest"] == report.experiment.dataset.digest
        assert re.fullmatch(
            r"[0-9a-f]{40}(-dirty)?|unknown", run.data.tags["slateflow.code_commit"]
        )
        assert run.data.metrics["train_seconds"] == pytest.approx(candidate.train_seconds)
        assert run.data.metrics["evaluation_mean"] == pytest.approx(candidate.mean)
        (logged,) = run.inputs.dataset_inputs
        assert report.experiment.dataset.digest.startswith(f"sha256:{logged.dataset.digest}")
    marwil = next(c for c in report.candidates if c.learner == "marwil")
    curve = client.get_metric_history(marwil.run_id, "policy_loss")
    assert len(curve) == learner_config("marwil").updates / 50
    assert curve[-1].value < curve[0].value


def test_the_version_explains_itself_and_carries_no_pickle(report, client):
    import mlflow

    version = client.get_model_version_by_alias(MODEL, "champion")
    assert version.tags["learner"] == "fitted-q"
    assert version.tags["dataset_digest"] == report.experiment.dataset.digest
    assert json.loads(version.tags["recipe"])["episodes"] == EPISODES
    verdict = json.loads(version.tags["verdict"])
    assert verdict["uplift"] == next(c.uplift for c in report.candidates if c.verdict == "winner")
    for candidate in report.candidates:
        row = f"| {candidate.learner} | {candidate.verdict} | {candidate.mean:.2f} ± "
        assert row in version.description
    assert f"{report.experiment.dataset.rows:,} rows, {EPISODES} episodes" in version.description
    assert report.experiment.dataset.digest in version.description
    # Its example request can be asked
    (request,) = re.findall("```json\n(.*)\n```", version.description)
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    answer = model.predict(pd.DataFrame(json.loads(request)["dataframe_records"]))
    assert len(answer["scores"][0]) == 3
    assert (
        f'load_model("models:/{MODEL}@champion")' in client.get_registered_model(MODEL).description
    )
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}@champion"))
    names = [path.name for path in folder.rglob("*")]
    assert not [name for name in names if name.endswith((".pkl", ".pickle"))]
    requirements = (folder / "requirements.txt").read_text().split()
    assert {re.split("[=<>]", line)[0] for line in requirements} == {
        "mlflow-skinny", "numpy", "pandas",
    }  # fmt: skip
    assert "input_example.json" in names


def test_the_champion_gives_the_slates_of_the_policy_that_was_evaluated(
    report, client, tmp_path, monkeypatch
):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    winner = next(c for c in report.candidates if c.verdict == "winner")
    policy = ScoringPolicy(Scorer.load(client.download_artifacts(winner.run_id, "scorer.npz")))
    frames, expected = [], []
    for count in (20, 3, 57):
        env = BatchedLongTermSatisfaction(preset("modified-lts-20-2", num_candidates=count), 40)
        observation, _ = env.reset(seed=count)
        observation["step"] = np.arange(40, dtype=np.int32)[:, None] * 3
        slates, _ = policy.act(observation, np.random.default_rng(0))
        expected += slates.tolist()
        frames.append(
            pd.DataFrame(
                {
                    "user": observation["user"].astype(float).tolist(),
                    "candidates": observation["candidates"].astype(float).tolist(),
                    "step": observation["step"][:, 0].astype(np.int64),
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True).sample(frac=1, random_state=0)
    answer = model.predict(frame)
    assert answer["slate"].loc[range(120)].tolist() == expected
    assert [len(scores) for scores in answer["scores"].loc[range(120)]] == [20] * 40 + [3] * 40 + [
        57
    ] * 40


def test_again_the_dataset_is_reused_and_the_champion_stays(report, data, client):
    from flows.pipeline import pipeline

    files = sorted(Path(report.experiment.dataset.path).rglob("*.parquet"))
    before = [file.stat().st_mtime_ns for file in files]
    again = pipeline(
        recipe="modified-lts-20-2",
        episodes=EPISODES,
        seed=SEED,
        learners=["fitted-q"],
        evaluation_episodes=500,
        data=data,
    )
    assert again.experiment.dataset == report.experiment.dataset
    assert [file.stat().st_mtime_ns for file in files] == before
    assert again.registered is None
    assert again.champion is not None
    assert again.champion.version == 1
    assert again.champion.mean == again.candidates[0].mean  # equal data and weights
    assert again.summary == "no winner, version 1 stays champion"
    assert int(client.get_model_version_by_alias(MODEL, "champion").version) == 1


def test_again_the_trainings_are_found_and_other_settings_are_trained(report):
    from flows.train import train
    from slateflow.errors import InputError

    before = {c.learner: c.run_id for c in report.candidates}
    learners = ["linucb", "fitted-q"]

    def again(seed=SEED, settings=None):
        experiment = report.experiment.model_copy(update={"seed": seed})
        return {m.learner: m.run_id for m in train(experiment, learners, settings)}

    assert again() == {name: before[name] for name in learners}
    changed = again(settings={"fitted-q": {"ridge": 1e-3}})
    assert changed["linucb"] == before["linucb"]
    assert changed["fitted-q"] not in before.values()
    assert not set(again(seed=SEED + 1).values()) & {*before.values(), *changed.values()}
    with pytest.raises(InputError, match="unknown learner in settings 'fited-q': expected"):
        again(settings={"fited-q": {"ridge": 1e-3}})


def test_policies_that_play_side_by_side_earn_what_they_earn_alone(report, monkeypatch):
    import tasks.evaluate
    from tasks.experiment import ModelRef

    models = [
        ModelRef(**{name: getattr(one, name) for name in ModelRef.model_fields})
        for one in report.candidates
    ]
    beside = tasks.evaluate.take_verdict(report.experiment, models, 1100)
    monkeypatch.setattr(tasks.evaluate, "BLOCK_EPISODES", 2000)
    assert tasks.evaluate.take_verdict(report.experiment, models, 1100) == beside


def test_a_training_refuses_a_dataset_that_is_not_the_published_one(report):
    from flows.train import train
    from slateflow.errors import InputError

    wanted = f"sha256:{'0' * 64}"
    dataset = report.experiment.dataset.model_copy(update={"digest": wanted})
    with pytest.raises(InputError, match=f"expected the dataset {wanted}, got sha256:"):
        train(report.experiment.model_copy(update={"dataset": dataset}), ["linucb"])


def test_a_better_candidate_takes_over_and_the_old_champion_is_kept(
    tmp_path, data, client, monkeypatch
):
    from prefect.artifacts import Artifact

    from flows.pipeline import pipeline

    # A recipe that no other test has nights of: they may share the store
    (tmp_path / "overtaken.toml").write_text(
        "environment = 'modified-lts-10-1'\nepisodes = 100\nseed = 1\n"
        "[policies]\nrandom = 0.5\ngreedy = 0.5\n"
    )
    monkeypatch.setattr(tasks.experiment, "RECIPES", tmp_path)

    def run(learner):
        return pipeline(recipe="overtaken", learners=[learner], evaluation_episodes=300, data=data)

    name = "slateflow-overtaken"
    first, second = run("linucb"), run("fitted-q")
    assert first.registered.version == 1
    assert second.registered.version == 2
    assert int(client.get_model_version_by_alias(name, "champion").version) == 2
    assert int(client.get_model_version_by_alias(name, "previous").version) == 1
    (before,) = re.findall(
        "The champion before it, version 1: (.*) ±", client.get_model_version(name, "2").description
    )
    assert before == f"{second.champion.mean:.2f}"
    check_trend(name, [second, first])
    overview = str(Artifact.get("slateflow").data)
    check_tables(overview)
    row = next(line for line in overview.splitlines() if f"[{name[10:]}](/artifacts/" in line)
    assert "| v2 fitted-q |" in row
    assert "promoted |" in row
    assert f"{second.candidates[0].over_champion.uplift:+.2f} [" in row


def test_a_run_that_reports_again_has_one_row(report):
    from prefect import flow

    from tasks.reports.page import publish_report

    @flow(name="reporting")
    def reporting() -> tuple[str, str]:
        experiment = report.experiment.model_copy(update={"recipe": "reported-twice"})
        other = report.model_copy(update={"experiment": experiment})
        return publish_report(other), publish_report(other)

    first, second = reporting()
    assert first.count("](/runs/flow-run/") == 1
    assert second == first


def test_nobody_better_than_random_registers_nothing(report, client):
    from flows.register import register
    from tasks.reports.past_runs import past_runs

    loser = report.candidates[0].model_copy(update={"verdict": "undecided"})
    experiment = report.experiment.model_copy(update={"recipe": "no-winner"})
    changes = {"experiment": experiment, "candidates": [loser], "registered": None}
    assert register(report.model_copy(update=changes)).registered is None
    assert not client.search_registered_models("name = 'slateflow-no-winner'")
    # A separate registration, such as one started by an event, is a night of the trend
    (night,) = past_runs(client, "no-winner")
    assert (night.outcome, night.best.learner) == ("No winner", loser.learner)


def test_a_finished_run_is_found_by_its_state_its_tags_and_its_name(report):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    chosen = {"state": {"name": {"any_": ["Completed"]}}, "tags": {"all_": ["promoted"]}}
    chosen["name"] = {"like_": "pipeline modified-lts-20-2"}
    with get_client(sync_client=True) as prefect:
        runs = prefect.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(chosen))
    # Other tests' runs are in the same store
    named = {(run.name, run.state.message) for run in runs}
    expected = "fitted-q wins, registered as version 1"
    assert ("pipeline modified-lts-20-2: promoted", expected) in named


def test_pages_of_tasks_can_read_their_inputs(report):
    """Prefect's default UI shows only constants, parameters and task runs."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as prefect:
        runs = prefect.read_task_runs(limit=200)
    kinds = {one.input_type for run in runs for given in run.task_inputs.values() for one in given}
    assert len(runs) > 10
    assert kinds <= {"constant", "parameter", "task_run"}


@pytest.mark.parametrize(
    ("registered", "champion", "name"),
    [(True, False, "Promoted"), (False, True, "Kept champion"), (False, False, "No winner")],
)
def test_every_verdict_has_a_name(report, registered, champion, name):
    from tasks.reports.report import Champion

    reigning = Champion(version=3, mean=1.0, sem=0.1) if champion else None
    other = report.model_copy(
        update={"registered": report.registered if registered else None, "champion": reigning}
    )
    assert other.outcome == name


def test_progress_artifacts_do_not_outlive_their_step(report):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as prefect:
        keys = {str(artifact.key) for artifact in prefect.read_artifacts()}
    left = {key for key in keys if key.endswith("modified-lts-20-2")}  # others are other tests'
    assert left == {"slateflow-modified-lts-20-2"}
    assert not any(key.startswith("progress") for key in keys)


def test_the_report_links_runs_and_the_registered_version(report):
    from tasks.reports.page import render_markdown

    server = "http://127.0.0.1:5000"
    links = {c.run_id: f"{server}/#/runs/{c.run_id}" for c in report.candidates}
    experiment = f"{server}/#/experiments/1/runs?workflowType=machine_learning"
    markdown = render_markdown(report, links, server, experiment)
    assert f"- MLflow: [experiment {MODEL}]({experiment})." in markdown
    for candidate in report.candidates:
        assert f"[{candidate.learner}]({links[candidate.run_id]})" in markdown
    page = f"{server}/#/models/{MODEL}/versions/1?workflowType=machine_learning"
    assert f"[{MODEL} version 1]({page})" in markdown


def test_events_lead_from_the_dataset_to_the_champion(report, monkeypatch):
    from tasks.server import lineage

    emitted = []
    monkeypatch.setattr(
        lineage, "emit_event", lambda *a, related=(), **k: emitted.append((*a, related))
    )
    lineage.dataset_published(report.experiment)
    lineage.model_trained(report.winner, report.experiment)
    lineage.model_promoted(report)
    (_, dataset, _), (_, run, (trained_on,)), (_, _, (promoted,)) = emitted
    assert trained_on.id == dataset["prefect.resource.id"]
    assert promoted.id == run["prefect.resource.id"]
    digest = report.experiment.dataset.digest.removeprefix("sha256:")
    assert dataset["prefect.resource.id"].endswith(digest)


def test_a_verdict_is_the_same_after_it_was_an_event(report):
    from tasks.reports.report import Report

    assert Report.model_validate(json.loads(report.model_dump_json())) == report
