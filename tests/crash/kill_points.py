"""Kills generation at every call that changes the disk, and examines the remains.

    uv run python -m tests.crash.kill_points

Each kill point is a process forked from this one that receives SIGKILL before the n-th call of `os`
that makes, writes, flushes, renames or removes a file or folder; at a write also when half of it is
on the disk. Then the same recipe is generated again, undisturbed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, Recipe, generate

RECIPE = Recipe(
    name="tiny",
    environment="interest-evolution",  # its datasets have a catalogue, too
    episodes=1_010,
    seed=3,
    policies={"random": 0.6, "greedy": 0.4},
    parameters={"step_limit": 3, "num_features": 10},
)
CALLS = ("mkdir", "open", "write", "ftruncate", "fsync", "link", "replace", "unlink", "rmdir")
Visit = Callable[[str, Callable[[], None]], None]  # name of the call, half of it


@dataclass(frozen=True)
class Outcome:
    """The remains of a kill, and the outcome of the same command afterwards."""

    start: str
    call: str
    moment: str
    seen: str  # by a reader after the kill: none, whole or partial
    files_left: tuple[str, ...]  # hidden ones, after the kill
    repaired: bool  # files, digest and episodes are those of an uninterrupted run
    files_kept: tuple[str, ...]  # hidden ones, after the rerun

    @property
    def good(self) -> bool:
        """True if nothing was lost, duplicated or visible by half."""
        return self.repaired and self.seen in ("none", "whole")


@contextmanager
def visited(visit: Visit) -> Iterator[None]:
    """Call `visit` before every call of `os` that changes the disk."""
    real = {name: getattr(os, name) for name in CALLS}

    def visiting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            def half() -> None:
                descriptor, data = arguments
                real["write"](descriptor, data[: len(data) // 2])

            if name != "open" or arguments[1] & os.O_CREAT:
                visit(name, half)
            return real[name](*arguments, **options)

        return call

    try:
        for name in CALLS:
            setattr(os, name, visiting(name))
        yield
    finally:
        for name in CALLS:
            setattr(os, name, real[name])


def kill_points(data: Path) -> list[tuple[str, str]]:
    """(call, moment) of every point of an undisturbed run; a reader examines each of them."""
    points: list[tuple[str, str]] = []

    def visit(name: str, half: Callable[[], None]) -> None:
        assert look(data) != "partial", f"a reader saw a partial dataset before {name}"
        points.append((name, "before"))
        if name == "write":
            points.append((name, "middle"))

    with visited(visit):
        generate(RECIPE, Folder(str(data)))
    return [*points, ("", "after the last")]


def killed_at(data: Path, point: int) -> None:
    """Generate in a process that dies at a point."""
    child = os.fork()
    if child == 0:
        passed = 0

        def die() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def visit(name: str, half: Callable[[], None]) -> None:
            nonlocal passed
            for moment in ("before", "middle") if name == "write" else ("before",):
                if passed == point:
                    if moment == "middle":
                        half()
                    die()
                passed += 1

        try:
            with visited(visit):
                generate(RECIPE, Folder(str(data)))
            die()
        finally:
            os._exit(1)  # not reached unless generation failed
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"point {point}: the process ended by itself"


def look(data: Path) -> str:
    """A reader's view of the folder."""
    try:
        Dataset.open(str(data / RECIPE.name)).verify()
    except InputError as error:
        return "none" if f"{MANIFEST}, found none" in str(error) else "partial"
    return "whole"


def files(data: Path) -> dict[str, bytes]:
    """All files of the dataset, including hidden ones."""
    folder = data / RECIPE.name
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def hidden(data: Path) -> tuple[str, ...]:
    """Files that Parquet readers ignore, except the manifest."""
    return tuple(sorted(name for name in files(data) if Path(name).name.startswith(".")))


def episodes(data: Path) -> Counter[int]:
    """Rows of each episode, by a reader without the manifest."""
    table = pads.dataset(str(data / RECIPE.name), format="parquet", partitioning="hive").to_table()
    return Counter(table["episode"].to_pylist())


def from_nothing(data: Path) -> None:
    """An empty folder."""


def from_damage(data: Path) -> None:
    """Remains of other accidents: a truncated part, a half-written one, one of another recipe."""
    generate(RECIPE, Folder(str(data)))
    folder = data / RECIPE.name
    (folder / MANIFEST).unlink()
    first, second, third = sorted(folder.rglob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-100])
    second.rename(second.with_name(f".{second.name}.0123.tmp"))
    third.write_bytes(first.read_bytes())


STARTS: dict[str, Callable[[Path], None]] = {
    "from nothing": from_nothing,
    "from damage": from_damage,
}


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Kill at every point from every start."""
    reference = generate(RECIPE, Folder(str(folder / "reference")))
    assert len(reference.parts) >= 3
    whole = files(folder / "reference")
    once = Counter(dict.fromkeys(range(RECIPE.episodes), 3))
    for start, prepare in STARTS.items():
        traced = folder / "traced"
        prepare(traced)
        points = kill_points(traced)
        shutil.rmtree(traced)
        for number, (call, moment) in enumerate(points):
            data = folder / "data"
            prepare(data)
            killed_at(data, number)
            seen, left = look(data), hidden(data)
            again = generate(RECIPE, Folder(str(data))).verify()
            made = {name: content for name, content in files(data).items() if name in whole}
            repaired = again.digest == reference.digest and made == whole and episodes(data) == once
            yield Outcome(start, call, moment, seen, left, repaired, hidden(data))
            shutil.rmtree(data)


def table(results: list[Outcome]) -> str:
    """The kill points by start, call and moment."""
    lines = [
        f"{'start':<14}{'killed at':<24}{'points':>7}{'no dataset':>12}{'whole':>7}{'partial':>9}"
        f"{'repaired':>10}"
    ]
    kinds = dict.fromkeys((one.start, one.moment, one.call) for one in results)
    for start, moment, call in kinds:
        those = [
            one for one in results if (one.start, one.moment, one.call) == (start, moment, call)
        ]
        seen = Counter(one.seen for one in those)
        repaired = sum(one.repaired for one in those)
        lines.append(
            f"{start:<14}{f'{moment} {call}':<24}{len(those):>7}{seen['none']:>12}"
            f"{seen['whole']:>7}{seen['partial']:>9}{repaired:>10}"
        )
    good = sum(one.good for one in results)
    kept = Counter(name for one in results for name in one.files_kept)
    lines.append(
        f"{len(results)} kill points, {good} good; hidden files left by "
        f"{sum(bool(one.files_left) for one in results)} kills, after the rerun: {dict(kept) or 0}"
    )
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns 0 if every outcome is good."""
    with tempfile.TemporaryDirectory() as folder:
        results = list(outcomes(Path(folder)))
    print(table(results))
    return 0 if all(one.good for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
