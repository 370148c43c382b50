"""Old datasets and trainings are removed; those of a champion are kept."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli.main import main
from slateflow.errors import InputError
from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset, Folder, generate, read_recipe
from slateflow.trajectories.held_out import training_logs
from slateflow.trajectories.sources.example import Shop
from slateflow.user_models.kept_sums import SUMS
from tasks import experiment, prune
from tasks.experiment import held_in
from tasks.store.tracking import mlflow_client
from tasks.store.training_run import training_run
from tests.registry.published import logged_model, register_winner

ROOT = Path(__file__).parents[2]
NAME = "modified-lts-10-1"
DAY = 86_400


@pytest.fixture
def nights(tmp_path, monkeypatch):
    """Six nights, the first 60 days ago; `champion` is from the first, `previous` the second."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(prune, "CHECKPOINTS", tmp_path / "checkpoints")
    data, client = tmp_path / "data", mlflow_client()
    model = f"slateflow-{NAME}"
    datasets = []
    for night in range(6):
        recipe = read_recipe(ROOT / "datasets", NAME).varied(5, 20260901 + 10 * night)
        dataset = generate(recipe, Folder(str(data)))
        scorer, report = train(dataset, learner_config("linucb"), 0)
        if night < 2:
            register_winner(dataset, NAME, scorer, report)
            client.delete_registered_model_alias(model, "champion")
        else:
            logged_model(dataset, NAME, scorer, report)
        grow_old(Path(dataset.path), 60 - 10 * night)
        datasets.append(dataset)
    client.set_registered_model_alias(model, "champion", "1")
    client.set_registered_model_alias(model, "previous", "2")
    return data, datasets


def grow_old(folder: Path, days: float) -> None:
    moment = time.time() - days * DAY
    for file in folder.rglob("*"):
        os.utime(file, (moment, moment))


def published(data: Path) -> set[str]:
    return {str(path.parent) for path in data.rglob("_manifest.json")}


def pruned(capsys, *options: str) -> dict:
    assert main(["prune", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_dry_run_shows_what_yes_removes(nights, capsys):
    data, datasets = nights
    before = published(data)
    shown = pruned(capsys, "--days", "30", "--data", str(data))
    # 60 and 50 days are those of `champion` and `previous`; 20 and 10 are young
    assert [one["name"] for one in shown["found"]] == [datasets[2].path, datasets[3].path]
    assert [round(one["days"]) for one in shown["found"]] == [40, 30]
    assert shown["size"] == sum(
        file.stat().st_size
        for dataset in datasets[2:4]
        for file in Path(dataset.path).rglob("*")
        if file.is_file()
    )
    assert not shown["removed"]
    assert published(data) == before
    done = pruned(capsys, "--days", "30", "--data", str(data), "--yes")
    assert [one["name"] for one in done["found"]] == [one["name"] for one in shown["found"]]
    assert before - published(data) == {datasets[2].path, datasets[3].path}
    assert not Path(datasets[2].path).exists()
    assert pruned(capsys, "--days", "30", "--data", str(data))["found"] == []


@pytest.mark.parametrize("name", ["none", "file", "none/"])
def test_a_folder_that_is_not_there_is_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["prune", "--data", name, "--yes"]) == 2
    found = f"found none at {tmp_path}/{name.rstrip('/')}; correct it, or leave it out\n"
    assert capsys.readouterr().err == f"slateflow: --data: expected a folder of datasets, {found}"


def test_what_a_training_reads_stays(nights, capsys):
    data, datasets = nights
    logs = held_in(datasets[2])
    grow_old(Path(logs.path), 40)
    config = learner_config("linucb")
    with training_run(mlflow_client(), NAME, logs, config, 0):
        found = pruned(capsys, "--days", "30", "--data", str(data))["found"]
    assert [one["name"] for one in found] == [datasets[3].path]


@pytest.mark.slow
def test_the_newest_dataset_and_the_imported_ones_stay(nights, capsys):
    data, datasets = nights
    imported = Path(shutil.copytree(datasets[5].path, data / "theirs"))
    manifest = json.loads((imported / "_manifest.json").read_text())
    del manifest["checksum"]
    manifest["recipe"]["imported"] = "/a/disk/that/is/gone"
    (imported / "_manifest.json").write_text(json.dumps(manifest))
    held_in = training_logs(datasets[5], Folder(str(data / ".training" / f"{NAME}.one")))
    unfinished = Path(shutil.copytree(datasets[4].path, data / "half"))
    (unfinished / "_manifest.json").unlink()
    for path in (imported, unfinished, *(Path(d.path) for d in datasets)):
        grow_old(path, 400)
    grow_old(Path(datasets[5].path), 399)
    grow_old(Path(held_in.path), 398)  # as it is always younger than its dataset
    found = pruned(capsys, "--data", str(data), "--yes")["found"]
    gone = {one["name"] for one in found}
    assert gone == {held_in.path, str(unfinished), *(d.path for d in datasets[2:5])}
    assert {one["kind"] for one in found if one["name"] == str(unfinished)} == {
        "unfinished dataset"
    }
    assert published(data) == {datasets[n].path for n in (0, 1, 5)} | {str(imported)}


@pytest.mark.slow
def test_after_a_kill_there_is_no_dataset_and_the_next_call_goes_on(nights, capsys):
    data, datasets = nights
    code = (
        "import os, signal, sys\n"
        "from slateflow.trajectories.files import folder\n"
        "class Killing(folder.pafs.LocalFileSystem):\n"
        "    def delete_dir(self, path):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "folder.pafs.LocalFileSystem = Killing\n"
        "from tasks.prune import prune\n"
        "prune(30, sys.argv[1], remove=True)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(data)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = Path(datasets[2].path)
    assert list(left.rglob("*.parquet"))
    with pytest.raises(InputError, match="expected a dataset"):
        Dataset.open(str(left))
    found = pruned(capsys, "--data", str(data), "--yes")["found"]
    assert {one["name"] for one in found} == {str(left), datasets[3].path}
    assert not left.exists()


@pytest.mark.slow
def test_trainings_without_a_version_lose_their_weights(nights, capsys):
    data, _ = nights
    client = mlflow_client()
    with contextlib.closing(sqlite3.connect(data.parent / "mlflow.db")) as store, store:
        store.execute("UPDATE runs SET start_time = start_time - ?", [31 * 1000 * DAY])
    (found,) = client.search_experiments(filter_string=f"name = 'slateflow-{NAME}'")
    runs = {run.info.run_id for run in client.search_runs([found.experiment_id])}
    behind = {one.run_id for one in client.search_model_versions(f"name = 'slateflow-{NAME}'")}
    assert (len(runs), len(behind)) == (6, 2)
    gone = pruned(capsys, "--data", str(data), "--yes")["found"]
    assert {one["name"] for one in gone if one["kind"] == "training"} == runs - behind
    assert all(one["size"] > 500 for one in gone if one["kind"] == "training")
    assert {run.info.run_id for run in client.search_runs([found.experiment_id])} == behind
    weights = [path.parent.parent.name for path in data.parent.rglob("scorer.npz")]
    assert not (runs - behind) & set(weights)
    assert behind <= set(weights)


def test_a_champion_made_by_hand_stops_nothing(nights, capsys):
    """Versions of such champions have no tags."""
    data, datasets = nights
    client = mlflow_client()
    client.create_registered_model("slateflow-own")
    version = client.create_model_version("slateflow-own", str(data))
    client.set_registered_model_alias("slateflow-own", "champion", version.version)
    found = pruned(capsys, "--days", "30", "--data", str(data))["found"]
    assert [one["name"] for one in found] == [datasets[2].path, datasets[3].path]


def test_own_logs_stay_unless_they_can_be_read_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for module in (experiment, prune):
        monkeypatch.setattr(module, "RECIPES", tmp_path)
    (tmp_path / "logs").mkdir()
    columns = '[columns]\nitem = "item_id"\npropensity = "pscore"\nreward = "click"\n'
    (tmp_path / "shop.toml").write_text(f'source = "logs/*.parquet"\n{columns}')
    datasets = []
    for day in range(3):
        Shop.opened().log(300, day).to_parquet(tmp_path / "logs" / f"{day}.parquet")
        time.sleep(0.01)
        made = generate(read_recipe(tmp_path, "shop"), Folder(str(tmp_path / "data")))
        datasets.append(made)
        grow_old(Path(made.path), 50 - day)
    found = pruned(capsys, "--data", str(tmp_path / "data"))["found"]
    assert [one["name"] for one in found] == sorted(one.path for one in datasets[:2])
    for other in (columns.replace("click", "dwell_time"), "[columns"):  # edited, and half-written
        (tmp_path / "shop.toml").write_text(f'source = "logs/*.parquet"\n{other}')
        assert pruned(capsys, "--data", str(tmp_path / "data"))["found"] == []
    (tmp_path / "shop.toml").write_text(f'source = "logs/*.parquet"\n{columns}')
    assert len(pruned(capsys, "--data", str(tmp_path / "data"))["found"]) == 2
    (tmp_path / "logs" / "0.parquet").unlink()
    assert pruned(capsys, "--data", str(tmp_path / "data"))["found"] == []


def test_sums_of_days_go_when_no_training_asks_for_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(prune, "CHECKPOINTS", tmp_path / "checkpoints")
    (tmp_path / "logs").mkdir()
    columns = '[columns]\nitem = "item_id"\npropensity = "pscore"\nreward = "click"\n'
    (tmp_path / "shop.toml").write_text(f'source = "logs/*.parquet"\n{columns}')
    sums = tmp_path / "checkpoints" / SUMS
    for day in range(2):
        Shop.opened().log(2_000, day).to_parquet(tmp_path / "logs" / f"{day}.parquet")
    both = generate(read_recipe(tmp_path, "shop"), Folder(str(tmp_path / "data")))
    train(both, learner_config("linucb"), 0, checkpoints=tmp_path / "checkpoints")
    grow_old(tmp_path / "checkpoints", 40)
    (tmp_path / "logs" / "0.parquet").unlink()
    one = generate(read_recipe(tmp_path, "shop"), Folder(str(tmp_path / "data")))
    train(one, learner_config("linucb"), 0, checkpoints=tmp_path / "checkpoints")
    before = set(sums.iterdir())
    assert len(before) == 2  # the second day's serve both datasets
    found = pruned(capsys, "--data", str(tmp_path / "data"), "--yes")["found"]
    assert {one["kind"] for one in found} == {"sums of a day"}
    assert len(set(sums.iterdir())) == 1
    assert {one["name"] for one in found} == {str(path) for path in before - set(sums.iterdir())}
