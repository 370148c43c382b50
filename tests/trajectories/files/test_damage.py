"""Accidents of disks and people: each is an error with the file and the remedy."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, Recipe, Trajectories, generate
from slateflow.trajectories.exchange.importing import import_logs

TINY = Recipe("tiny", "modified-lts-10-1", 3, 5, {"random": 1}, {"time_budget": 2})
ONE_HOT = replace(
    TINY,
    environment="interest-evolution",
    parameters={"step_limit": 2, "num_features": 10, "num_candidates": 3},
)
NOBODY = 65534


@pytest.fixture
def folder(tmp_path) -> Path:
    """A published dataset of one part with 6 rows."""
    return Path(generate(TINY, Folder(str(tmp_path))).path)


def equal(one: Trajectories, other: Trajectories) -> bool:
    """True if all columns are equal."""
    columns = other.columns()
    return all(np.array_equal(values, columns[name]) for name, values in one.columns().items())


def or_complaint(call: Callable[[], Any]) -> Any:
    """The result of the call, or its error about the input."""
    try:
        return call()
    except InputError as error:
        return str(error)


def flips(content: bytes) -> Iterator[bytes]:
    """The content with one bit flipped, for each byte in turn."""
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 7)
        yield bytes(flipped)


def test_a_flipped_bit_anywhere_in_the_manifest_is_found_or_changes_nothing(folder):
    whole, content = Dataset.open(str(folder)), (folder / MANIFEST).read_bytes()
    found = 0
    for flipped in flips(content):
        (folder / MANIFEST).write_bytes(flipped)
        opened = or_complaint(lambda: Dataset.open(str(folder)))
        if isinstance(opened, str):
            assert opened.startswith(f"{folder}/{MANIFEST}: expected ")
            assert "\n" not in opened
            found += 1
        else:  # white space, or the name of the checksum
            assert opened == whole
    assert found > 0.75 * len(content)


@pytest.mark.integration
@pytest.mark.parametrize(
    "recipe",
    [pytest.param(TINY, id="features"), pytest.param(ONE_HOT, id="items", marks=pytest.mark.slow)],
)
def test_a_flipped_bit_anywhere_in_a_part_is_found_or_changes_nothing(recipe, tmp_path):
    dataset = generate(recipe, Folder(str(tmp_path)))
    folder = Path(dataset.path)
    rows, file = dataset.read(), folder / dataset.parts[0].path
    content, found = file.read_bytes(), 0
    for flipped in flips(content):
        file.write_bytes(flipped)
        read = or_complaint(lambda: next(dataset.iter_parts(verify=True)))
        if isinstance(read, str):
            assert read.startswith(f"{file}: ")
            assert "delete its _manifest.json and run `slateflow generate` again" in read
            assert "\n" not in read
            found += 1
        else:  # facts about pages beside their content, and about other programs
            assert equal(read, rows)
        assert file.read_bytes() == flipped  # nothing is repaired behind one's back
    assert found > 0.3 * len(content)


@pytest.mark.parametrize("damage", ["lost", "cut off", "flipped"])
def test_the_way_out_that_the_error_names_is_one(copied, small, recipe, damage):
    data = Folder(str(copied.parent))
    part = copied / small.parts[1].path
    whole = part.read_bytes()
    kept = (copied / small.parts[0].path).stat().st_mtime_ns
    if damage == "lost":
        part.unlink()
    else:
        half = len(whole) // 2
        part.write_bytes(whole[:half] if damage == "cut off" else _flipped(whole, half))
    with pytest.raises(
        InputError, match=r"delete its _manifest\.json and run `slateflow generate`"
    ):
        Dataset.open(str(copied)).verify()
    if damage != "flipped":  # that takes reading it all, as training does
        with pytest.raises(InputError, match=r"part-00001\.parquet: expected a"):
            generate(recipe, data)
    (copied / MANIFEST).unlink()
    assert generate(recipe, data).verify().digest == small.digest
    assert part.read_bytes() == whole
    assert (copied / small.parts[0].path).stat().st_mtime_ns == kept


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :]


def test_a_part_of_another_world_is_named_without_reading_it_all(copied, small, recipe, tmp_path):
    other = generate(
        replace(recipe, parameters={"time_budget": 4, "sensitivity": 0.05}),
        Folder(str(tmp_path / "other")),
    )
    part = small.parts[2].path
    shutil.copy(f"{other.path}/{part}", copied / part)
    with pytest.raises(InputError, match=r"part-00002.*got one of a world with other sensitivity;"):
        Dataset.open(str(copied)).read()


def test_a_part_of_another_schema_version_is_named(copied, small):
    import pyarrow.parquet as pq

    part = copied / small.parts[2].path
    table = pq.read_table(part, partitioning=None)
    document = json.loads(table.schema.metadata[b"slateflow"])
    document["schema_version"] = 1
    pq.write_table(table.replace_schema_metadata({"slateflow": json.dumps(document)}), part)
    with pytest.raises(InputError, match=r"part-00002.*expected schema version 2, got 1; delete"):
        Dataset.open(str(copied)).read()


@pytest.mark.parametrize("field", ["recipe", "rows", "episodes"])
def test_a_manifest_with_a_changed_field_is_refused(folder, field):
    document = json.loads((folder / MANIFEST).read_bytes())
    document[field] = {**document["recipe"], "seed": 6} if field == "recipe" else 7
    (folder / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"{MANIFEST}: expected checksum"):
        Dataset.open(str(folder))
    del document["checksum"]  # a manifest by another program that follows the contract
    (folder / MANIFEST).write_text(json.dumps(document))
    assert Dataset.open(str(folder)).verify().rows == 6


@contextmanager
def disk(size: str) -> Iterator[Path]:
    """A disk of a given size."""
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount")
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def test_a_full_disk_is_named_and_the_same_command_goes_on(small, recipe):
    with disk("300k") as place:
        with pytest.raises(InputError, match=r"parquet: No space left on device; make room") as no:
            generate(recipe, Folder(str(place)))
        assert f"cannot write {place}/small/policy=" in str(no.value)
        assert "\n" not in str(no.value)
        left = {path.name for path in place.rglob("*") if path.is_file()}
        assert left == {"part-00000.parquet"}  # whole ones stay, halves and the claim go
        with pytest.raises(InputError, match="found none; make it with"):
            Dataset.open(f"{place}/small")
        remount(place, "size=10m")
        assert generate(recipe, Folder(str(place))).verify().digest == small.digest


def test_a_read_only_disk_is_named_and_a_dataset_on_it_is_as_good_as_any(small, recipe):
    with disk("10m") as place:
        shutil.copytree(small.path, place / "small")
        remount(place, "ro")
        assert generate(recipe, Folder(str(place))).verify().digest == small.digest
        with pytest.raises(InputError, match=r"cannot write .*/new.*: Read-only file system; make"):
            generate(replace(recipe, name="new"), Folder(str(place)))
        remount(place, "rw")
        (place / "small" / MANIFEST).unlink()
        remount(place, "ro")
        with pytest.raises(InputError, match=r"cannot write .*/small.*: Read-only file system"):
            generate(recipe, Folder(str(place)))


def test_a_limit_of_the_size_of_files_is_named(recipe, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*parquet: File too large; make room"):
            generate(recipe, Folder(str(tmp_path)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as the user `nobody`: root may do anything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", [MANIFEST, "policy=random/part-00000.parquet", "."])
def test_what_may_not_be_read_is_named(closed):
    with tempfile.TemporaryDirectory() as data:
        Path(data).chmod(0o755)
        folder = Path(generate(TINY, Folder(data)).path)
        (folder / closed).chmod(0)
        with as_nobody(), pytest.raises(InputError, match=r"expected a .*Permission denied") as no:
            Dataset.open(str(folder)).read()
        (folder / closed).chmod(0o755)
        assert str(no.value).startswith(f"{folder}/{MANIFEST if closed == '.' else closed}: ")
        assert "\n" not in str(no.value)


def test_a_folder_of_somebody_else_is_named():
    with tempfile.TemporaryDirectory() as data:
        Path(data).chmod(0o555)
        with (
            as_nobody(),
            pytest.raises(InputError, match=r"cannot write .*/tiny: Permission denied"),
        ):
            generate(TINY, Folder(data))
        assert not list(Path(data).iterdir())


def test_leftovers_of_others_are_no_obstacle_where_one_may_not_remove_them(tmp_path, recipe, small):
    mine = tmp_path / "small" / "policy=random"
    mine.mkdir(parents=True)
    for name in (".part-00000.parquet.0.tmp", ".part-00000.parquet.crc", ".unrelated"):
        (mine / name).write_bytes(b"half")
    assert generate(recipe, Folder(str(tmp_path))).digest == small.digest
    hidden = {path.name for path in mine.iterdir() if path.name.startswith(".")}
    assert hidden == {".part-00000.parquet.crc", ".unrelated"}  # only what is surely ours goes
    assert dataclasses.replace(small, folder=Folder(str(tmp_path / "small"))).verify()


def test_parts_of_a_larger_unfinished_dataset_do_not_get_in(copied, small, recipe):
    (copied / MANIFEST).unlink()
    data, stranger = Folder(str(copied.parent)), copied / small.parts[2].path
    less = replace(recipe, policies={"random": 0.5, "greedy": 0.5})
    with pytest.raises(InputError, match=r"part-00002\.parquet: expected only the parts of") as no:
        generate(less, data)
    assert str(no.value).startswith(f"{stranger}: ")
    assert not (copied / MANIFEST).exists()
    stranger.unlink()  # the way out that the error names
    again = generate(less, data)
    assert again.digest == generate(replace(less, name="fresh"), data).digest
    assert set(again.folder.files()) == {part.path for part in again.parts}


def test_a_damaged_import_is_imported_again(copied, small, tmp_path):
    dataset = import_logs(copied, "imported", Folder(str(tmp_path)))
    part = Path(dataset.path, dataset.parts[0].path)
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"delete the dataset and import it again$"):
        Dataset.open(dataset.path).verify()
    shutil.rmtree(dataset.path)
    assert import_logs(copied, "imported", Folder(str(tmp_path))).digest == small.digest
