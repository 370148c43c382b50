"""Real processes that make the same name at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as pads
import pytest

from slateflow.trajectories import Dataset, Folder, generate
from tests.crash.racer import recipe

ROUNDS = 8


class Racer:
    """One process, started and warm."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.racer"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def order(self, *words: object) -> None:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def racers() -> Iterator[list[Racer]]:
    """Three racers."""
    started = [Racer() for _ in range(3)]
    yield started
    for racer in started:
        racer.process.stdin.close()
        racer.process.stdout.close()
        assert racer.process.wait(20) == 0


@pytest.fixture(scope="module")
def digests(tmp_path_factory) -> list[str]:
    """The digests of two seeds' datasets, made undisturbed."""
    return [
        generate(recipe(seed), Folder(str(tmp_path_factory.mktemp("peace")))).digest
        for seed in range(2)
    ]


def names(folder: Path) -> set[str]:
    """All files of a dataset, including hidden ones."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_two_processes_with_one_recipe_both_end_well(racers, digests, tmp_path):
    first, second, reader = racers
    for number in range(ROUNDS):
        data = tmp_path / str(number)
        reader.order("watch", data)
        first.order("generate", data, 0)
        second.order("generate", data, 0)
        assert [first.answer(), second.answer()] == [digests[0], digests[0]]
        assert set(reader.answer()) <= {"none", digests[0]}
        dataset = Dataset.open(str(data / "raced"))
        assert names(data / "raced") == {"_manifest.json", *(p.path for p in dataset.parts)}
        table = pads.dataset(dataset.path, partitioning="hive").to_table()
        assert Counter(table["episode"].to_pylist()) == dict.fromkeys(range(1800), 6)


def test_of_two_recipes_with_one_name_one_is_made_and_one_refused(racers, digests, tmp_path):
    first, second, _ = racers
    for number in range(ROUNDS):
        data = tmp_path / str(number)
        pair = [(first, 0), (second, 1)]
        for racer, seed in pair if number % 2 else reversed(pair):
            racer.order("generate", data, seed)
        answers = [first.answer(), second.answer()]
        (winner,) = [seed for seed in range(2) if answers[seed] == digests[seed]]
        refusal = answers[1 - winner]
        assert "another process that makes" in refusal or "found one with other seed" in refusal
        assert "\n" not in refusal
        assert Dataset.open(str(data / "raced")).verify().digest == digests[winner]
