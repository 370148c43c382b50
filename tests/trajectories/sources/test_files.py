"""Sources whose files are not files, or are written to while they are read."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Folder, generate
from slateflow.trajectories.sources import publish
from slateflow.trajectories.sources.files import find_files
from tests.trajectories.sources.shop import log, recipe


def rows(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Decisions between two items."""
    rng = np.random.default_rng(seed)
    return {
        "item": np.append([0, 1], rng.integers(0, 2, count - 2)),
        "propensity": np.full(count, 0.5),
        "reward": rng.integers(0, 2, count),
    }


@pytest.mark.parametrize("then", ["other rows", "fewer", "half", "none"])
def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path, monkeypatch, then):
    def of(cls, *arguments, **named):
        made = planned(cls, *arguments, **named)
        if then == "none":
            path.unlink()
        elif then == "half":
            os.truncate(path, 500)
        else:
            log(tmp_path, "2.parquet", rows(50 if then == "fewer" else 200, seed=1))
        return made

    log(tmp_path, "1.parquet", rows(200, seed=2))
    path, data = log(tmp_path, "2.parquet", rows(200)), Folder(str(tmp_path / "data"))
    planned = publish.PlannedDataset.of.__func__
    with monkeypatch.context() as patch:
        patch.setattr(publish.PlannedDataset, "of", classmethod(of))
        with pytest.raises(InputError, match=r"logs/2\.parquet: expected a file that is complete"):
            generate(recipe(tmp_path), data)
    assert not list((tmp_path / "data").iterdir())
    log(tmp_path, "2.parquet", rows(200, seed=1))
    assert generate(recipe(tmp_path), data).rows == 400


def test_a_folder_with_the_name_of_a_file_is_not_passed_by(tmp_path):
    log(tmp_path, "1.parquet", rows(9))
    (tmp_path / "logs" / "2.parquet").mkdir()
    part = log(tmp_path, "2.parquet/part-0.parquet", rows(9))
    with pytest.raises(InputError, match=r"files that end .* got the folder 2\.parquet; name the"):
        find_files(f"{tmp_path}/logs/*.parquet", (".parquet",))
    for whole in ("logs", "logs/**/*.parquet"):
        assert len(find_files(f"{tmp_path}/{whole}", (".parquet",)).files) == 2
    assert len(find_files(str(part.parent), (".parquet",)).files) == 1


def test_a_name_that_is_no_utf_8_is_named(tmp_path):
    log(tmp_path, "1.parquet", rows(9))
    with open(os.fsencode(tmp_path) + b"/logs/2\xff.parquet", "wb"):
        pass
    with pytest.raises(InputError, match=r"logs: expected names in UTF-8, got .* rename the file"):
        find_files(f"{tmp_path}/logs/*.parquet", (".parquet",))


def test_half_a_parquet_file_says_what_to_do(tmp_path):
    os.truncate(log(tmp_path, "1.parquet", rows(200)), 500)
    with pytest.raises(InputError, match=r"expected a Parquet file, .* write it again or move it"):
        generate(recipe(tmp_path), Folder(str(tmp_path / "data")))


def test_a_file_of_the_future_would_be_the_newest_for_ever(tmp_path):
    for name in ("1.parquet", "2.parquet"):
        path = log(tmp_path, name, rows(9))
    os.utime(path, (0, time.time() + 3600))  # another clock
    assert len(find_files(f"{tmp_path}/logs", (".parquet",), newest=1).files) == 1
    os.utime(path, (0, 7e9))
    with pytest.raises(InputError, match=r"logs/2\.parquet: expected a time .* `touch` the file"):
        find_files(f"{tmp_path}/logs", (".parquet",), newest=1)
    assert len(find_files(f"{tmp_path}/logs", (".parquet",)).files) == 2


def test_a_source_without_files_says_how_to_name_them(tmp_path):
    with pytest.raises(InputError, match=r"found none; name a file, a folder or files by \*, \? "):
        find_files(f"{tmp_path}/[0-9].parquet", (".parquet",))


def test_two_stars_at_the_end_are_files_in_any_folder(tmp_path):
    log(tmp_path, "a.parquet", rows(9))
    log(tmp_path, "day/deep/b.parquet", rows(9))
    found = find_files(f"{tmp_path}/logs/**", (".parquet",))
    assert [file.name for file in found.files] == ["a.parquet", "day/deep/b.parquet"]


@pytest.mark.parametrize("written", ["logs/items.csv", "logs/../logs/items.csv", "link/items.csv"])
def test_the_file_of_the_items_has_no_logs_however_its_path_is_written(tmp_path, written):
    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\nb,0.5,0\n")
    log(tmp_path, "items.csv", "item,price\na,1\nb,2\n")
    (tmp_path / "link").symlink_to(tmp_path / "logs")
    text = f'[items]\nfile = "{written}"\nfeatures = ["price"]\n'
    assert generate(recipe(tmp_path, text), Folder(str(tmp_path / "data"))).rows == 2


def test_a_file_of_items_that_is_written_while_it_is_read_is_refused(tmp_path, monkeypatch):
    def of(cls, *arguments, **named):
        made = planned(cls, *arguments, **named)
        items.write_text("item,price\na,1\nb,3\n")
        return made

    log(tmp_path, "a.csv", "item,propensity,reward\na,0.5,1\nb,0.5,0\n")
    (items := tmp_path / "items.csv").write_text("item,price\na,1\nb,2\n")
    text = '[items]\nfile = "items.csv"\nfeatures = ["price"]\n'
    planned = publish.PlannedDataset.of.__func__
    monkeypatch.setattr(publish.PlannedDataset, "of", classmethod(of))
    with pytest.raises(InputError, match=r"items\.csv: expected a file that is complete"):
        generate(recipe(tmp_path, text), Folder(str(tmp_path / "data")))
    assert not list((tmp_path / "data").iterdir())


def test_a_run_that_fails_leaves_what_another_has_published_meanwhile(tmp_path, monkeypatch):
    def of(cls, *arguments, **named):
        made = planned(cls, *arguments, **named)
        with monkeypatch.context() as patch:  # the other one
            patch.setattr(publish.PlannedDataset, "of", classmethod(planned))
            others.append(publish._make(shop, data, data / shop.dataset_name, lambda *_: None))
        log(tmp_path, "a.parquet", rows(50, seed=1))
        return made

    log(tmp_path, "a.parquet", rows(200))
    shop, data, others = recipe(tmp_path), Folder(str(tmp_path / "data")), []
    planned = publish.PlannedDataset.of.__func__
    monkeypatch.setattr(publish.PlannedDataset, "of", classmethod(of))
    with pytest.raises(InputError, match="expected a file that is complete"):
        generate(shop, data)
    assert others[0].verify().rows == 200
