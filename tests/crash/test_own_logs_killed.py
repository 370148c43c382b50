"""kill -9 at each call that changes the disk while logs are read or reused: nothing is partial."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, AnyRecipe, Dataset, Folder, Recipe, generate
from slateflow.trajectories.sources import publish
from tests.crash.kill_points import visited
from tests.trajectories.sources.shop import log, recipe

COLUMNS = '[columns]\nepisode = "session"\ntime = "t"\n'
ROWS = "\n".join(f"s{n % 4},{20 - n},{n % 3},0.5,{n}" for n in range(20))


def seen(folder) -> str:
    try:
        Dataset.open(folder.url).verify()
    except InputError as error:
        return "none" if f"{MANIFEST}, found none" in str(error) else "partial"
    return "whole"


def killed_at(make, point: int) -> bool:
    """Run in a process that dies before the point's call; returns whether it got that far."""
    child = os.fork()
    if child == 0:
        passed = 0

        def visit(name, half) -> None:
            nonlocal passed
            if passed == point:
                if name == "write":
                    half()
                os.kill(os.getpid(), signal.SIGKILL)
            passed += 1

        try:
            with visited(visit):
                make()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def check_kills_while_it_takes_over(
    data: Path, earlier: Dataset, later: AnyRecipe, links: int
) -> None:
    """Kill the next generation, with an earlier dataset, at each of its calls of the disk."""
    beside = data.parent
    whole = generate(later, Folder(str(beside / "whole")))
    calls: list[str] = []
    copy = Path(shutil.copytree(data, beside / "counted"))
    with visited(lambda name, half: calls.append(name)):
        generate(later, Folder(str(copy)))
    assert calls.count("link") == links
    for point in range(len(calls)):
        killed = Folder(str(shutil.copytree(data, beside / f"{point}")))
        assert killed_at(lambda killed=killed: generate(later, killed), point)
        assert seen(killed / earlier.path.rpartition("/")[2]) == "whole"
        assert seen(killed / later.dataset_name) in ("none", "whole")
        again = generate(later, killed).verify()
        assert again.digest == whole.digest
        assert again.folder.files() == whole.folder.files()
        assert not list(Path(killed.url).rglob(".*.tmp"))
        shutil.rmtree(killed.url)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_kill_while_days_are_taken_over_harms_neither_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 6)
    header = "session,t,item,propensity,reward\n"
    data = tmp_path / "data"
    for day in range(2):
        rows = [f"s{n % 4 + 4 * day},{20 * day + n},{n % 3},0.5,{n}" for n in range(9)]
        log(tmp_path, f"{day}.csv", header + "\n".join(rows))
        if day < 1:
            earlier = generate(recipe(tmp_path, COLUMNS), Folder(str(data)))
    later = recipe(tmp_path, COLUMNS)
    links = len(earlier.parts) + len(earlier.days)
    check_kills_while_it_takes_over(data, earlier, later, links)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_kill_while_nights_are_taken_over_harms_neither_dataset(tmp_path):
    shares = {"random": 0.5, "greedy": 0.5}
    night = Recipe("tiny", "interest-evolution", 4, 3, shares, {"step_limit": 2}, nights=2)
    data, later = tmp_path / "data", night.varied(seed=4)
    earlier = generate(night, Folder(str(data)))
    check_kills_while_it_takes_over(data, earlier, later, links=2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_kill_leaves_no_dataset_or_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PART_ROWS", 6)
    log(tmp_path, "a.csv", f"session,t,item,propensity,reward\n{ROWS}")
    found = recipe(tmp_path, COLUMNS)
    whole = generate(found, Folder(str(tmp_path / "whole")))
    assert len(whole.parts) > 2
    point = 0
    while True:
        data = Folder(str(tmp_path / f"{point}"))
        far = killed_at(lambda data=data: generate(found, data), point)
        assert seen(data / found.dataset_name) in ("none", "whole")
        again = generate(found, data).verify()
        assert again.digest == whole.digest
        assert again.folder.files() == whole.folder.files()
        if not far:
            break
        point += 1
    assert point > 30
