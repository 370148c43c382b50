"""A verdict from the logs of a simulated recipe has the returns by play beside it."""

from __future__ import annotations

import json

import pytest

from flows.cli.main import main

RECIPE = ("modified-lts-10-1", "--episodes", "600", "--learners", "linucb")
PLAYED = ("--evaluation-episodes", "150")


@pytest.fixture(scope="module")
def data(embedded, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("by-play"))
    with pytest.MonkeyPatch.context() as patch:  # a registry that no other test promotes in
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder


def document(capsys, *arguments: str):
    capsys.readouterr()
    assert main([*arguments, *PLAYED, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_estimates_have_returns_by_play_beside_them(data, capsys):
    """Random and the optimum earn what they earn where all is played: the users are the same."""
    by_logs = document(capsys, "run", *RECIPE, "--data", data, "--evidence", "logs")
    found = {one["policy"]: one for one in by_logs["played"]}
    assert list(found) == ["random", "linucb", "greedy", "optimum"]
    assert {one["episodes"] for one in found.values()} == {150}
    assert by_logs["optimum"] is None
    (candidate,) = by_logs["candidates"]
    assert abs(candidate["mean"] - found["linucb"]["mean"]) < 4 * candidate["sem"] + 4
    data = f"{data}/played"
    played = document(capsys, "run", *RECIPE, "--data", data)
    assert "played" not in played
    assert found["random"]["mean"] == played["baseline"]["mean"]
    assert found["optimum"]["mean"] == played["optimum"]["mean"]
    assert found["optimum"]["sem"] == pytest.approx(played["optimum"]["sem"])


def test_the_table_has_a_column_for_them(data, capsys):
    capsys.readouterr()
    assert main(["run", *RECIPE, *PLAYED, "--data", data, "--evidence", "logs"]) == 0
    printed = capsys.readouterr().out
    assert "by play ± s.e." in printed
    (optimum,) = (line for line in printed.splitlines() if line.startswith(" optimum"))
    assert "±" in optimum
    said = " ".join(printed.split())
    assert "no score from logs; by play: 150 episodes, which decide nothing" in said
