"""The stages on datasets in an object store."""

from __future__ import annotations

import json

from flows.cli.main import main
from slateflow.trajectories import Dataset
from tests.object_store import object_store

LOGS = ["modified-lts-10-1", "--episodes", "40", "--seed", "13"]


def test_stages_on_a_bucket(embedded, tmp_path, capsys):
    def run(command: str, data: str, *arguments: str):
        assert main([command, *LOGS, "--data", data, *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    local = run("generate", str(tmp_path))
    with object_store("flows") as url:
        dataset = run("generate", f"{url}/data")
        assert dataset["digest"] == local["digest"]
        assert dataset["path"].startswith("s3://flows/data/modified-lts-10-1")
        learners = ("--learners", "linucb,fitted-q")
        models = run("train", f"{url}/data", *learners)
        verdict = run("evaluate", f"{url}/data", *learners, "--evaluation-episodes", "50")
        assert {c["run_id"] for c in verdict["candidates"]} == {m["run_id"] for m in models}
        run("train", str(tmp_path), *learners)  # equal logs on the disk give equal models
        again = run("evaluate", str(tmp_path), *learners, "--evaluation-episodes", "50")
        means = [{c["learner"]: c["mean"] for c in v["candidates"]} for v in (verdict, again)]
        assert means[0] == means[1]

        opened = Dataset.open(dataset["path"])
        opened.folder.write(opened.parts[0].path, b"no Parquet")
        assert main(["train", *LOGS, "--data", f"{url}/data", *learners]) == 2
        errors = capsys.readouterr().err.splitlines()  # the server has output there, too
        (line,) = (line for line in errors if line.startswith("slateflow: "))
        assert f"{dataset['path']}/{opened.parts[0].path}: expected a Parquet file" in line
