"""Datasets in an object store: as on a disk, and never partial."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest

from slateflow.errors import InputError
from slateflow.trajectories import MANIFEST, Dataset, Folder, Recipe, generate
from slateflow.trajectories.held_out import training_logs
from tests.object_store import object_store

pytestmark = pytest.mark.integration

generation = import_module(
    "slateflow.trajectories.generation.generate"
)  # a function has its name, too
simulation = import_module("slateflow.trajectories.generation.simulate")

LOGS = Recipe(
    "logs", "modified-lts-10-1", 2100, 5, {"random": 0.5, "greedy": 0.5}, {"time_budget": 4}
)


@pytest.fixture(scope="module")
def store():
    """URL of a bucket."""
    with object_store("logs") as url:
        yield url


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Dataset:
    """The dataset of `LOGS` on the disk."""
    return generate(LOGS, Folder(str(tmp_path_factory.mktemp("local"))))


def test_files_are_written_read_and_found(store):
    folder = Folder(f"{store}/files") / "deep"
    assert not folder.exists("a.bin")
    assert folder.files() == []
    folder.write("sub/a.bin", b"abc")
    folder.write(".hidden", memoryview(b"x"))
    assert folder.files() == ["sub/a.bin"]
    assert folder.exists("sub/a.bin")
    assert not folder.exists("sub")
    assert folder.read("sub/a.bin") == b"abc"
    assert folder.open("sub/a.bin").read() == b"abc"
    folder.write("sub/a.bin", b"new")
    assert folder.read("sub/a.bin") == b"new"


def test_the_digest_is_that_of_the_disk_for_any_number_of_workers(store, local):
    for workers in (1, 2):
        dataset = generate(LOGS, Folder(f"{store}/workers-{workers}"), workers)
        assert dataset.digest == local.digest
        assert Dataset.open(dataset.path).verify().rows == 2100 * 4
    files = Folder(local.path).files()
    assert Folder(dataset.path).files() == files
    for name in files:  # nothing but the place is another
        assert Folder(dataset.path).read(name) == Folder(local.path).read(name)


def test_an_interrupted_generation_shows_no_dataset_and_its_parts_are_used(
    store, local, monkeypatch
):
    data = Folder(f"{store}/interrupted")
    seen = []

    def interrupt(done: int, total: int) -> None:
        seen.append((data / LOGS.name).exists(MANIFEST))
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(simulation, "MAX_PARTS_AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        generate(LOGS, data, progress=interrupt)
    assert len((data / LOGS.name).files()) == 3
    with pytest.raises(InputError, match=r"s3://.*expected a dataset with _manifest\.json"):
        Dataset.open((data / LOGS.name).url)
    written = []
    write = generation.write_part

    def counted(folder, path, rows, spec, key):
        written.append(key)
        return write(folder, path, rows, spec, key)

    monkeypatch.setattr(generation, "write_part", counted)
    dataset = generate(LOGS, data, progress=lambda *_: seen.append(False))
    assert dataset.digest == local.digest
    assert len(written) == len(dataset.parts) - 3
    assert generate(LOGS, data).digest == local.digest
    assert len(written) == len(dataset.parts) - 3  # published: nothing is made
    assert not any(seen)  # the manifest comes last


def test_a_damaged_part_is_named_and_made_again(store, local):
    data = Folder(f"{store}/damaged")
    dataset = generate(LOGS, data)
    name = dataset.parts[2].path
    whole = dataset.folder.read(name)
    middle = len(whole) // 2
    for damaged in (whole[:-100], whole[:middle] + b"\x00" * 64 + whole[middle + 64 :]):
        dataset.folder.write(name, damaged)
        with pytest.raises(InputError, match=f"s3://logs/damaged/logs/{name}: .*delete its"):
            Dataset.open(dataset.path).verify()
    # As in the message; pyarrow deletes what our folders cannot.
    dataset.folder._located[0].delete_file(f"logs/damaged/logs/{MANIFEST}")
    again = generate(LOGS, data)
    assert again.digest == local.digest
    assert dataset.folder.read(name) == whole


def test_processes_that_make_the_same_dataset_end_with_one(store, local):
    data = Folder(f"{store}/racing")
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: generate(LOGS, data), range(3)))
    assert {dataset.digest for dataset in made} == {local.digest}
    Dataset.open(made[0].path).verify()


def test_a_dataset_of_another_recipe_is_not_overwritten(store):
    data = Folder(f"{store}/taken")
    dataset = generate(LOGS, data)
    other = Recipe(LOGS.name, LOGS.environment, 10, 5, {"random": 1.0}, LOGS.parameters)
    with pytest.raises(InputError, match="found one with other"):
        generate(other, data)
    dataset.verify()


def test_training_logs_lie_beside_it(store, local, tmp_path):
    dataset = generate(LOGS, Folder(f"{store}/beside"))
    training = training_logs(dataset, Folder(f"{store}/beside/.training/logs"))
    assert training.digest == training_logs(local, Folder(str(tmp_path))).digest


def test_a_bucket_that_is_not_there_is_one_line(store):
    with pytest.raises(InputError, match=r"cannot write .*--data") as refused:
        generate(LOGS, Folder("s3://elsewhere/data"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["s3://key:hush@logs/data", "s3://logs/data?secret_key=hush"])
def test_a_url_with_a_secret_is_refused_without_telling_it(url):
    with pytest.raises(InputError, match="AWS_SECRET_ACCESS_KEY") as refused:
        generate(LOGS, Folder(url))
    assert "hush" not in str(refused.value)
    assert "s3://logs/data" in str(refused.value)


@pytest.mark.slow
def test_a_store_that_goes_away_is_one_line():
    with object_store("gone") as url:
        dataset = generate(LOGS, Folder(f"{url}/data"))
        manifest = json.loads(dataset.folder.read(MANIFEST))
        assert manifest["digest"] == dataset.digest
        folder = dataset.folder
        located = folder._located
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "_located", property(lambda self: located))
        with pytest.raises(InputError, match="expected a readable file, got"):
            folder.read(MANIFEST)
