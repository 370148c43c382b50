"""Files by URL, either whole or missing."""

from __future__ import annotations

import os

import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Folder


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_files_are_written_read_and_found(tmp_path, scheme):
    folder = Folder(f"{scheme}{tmp_path}") / "deep" / "er"
    assert not folder.exists("a.bin")
    folder.write("sub/a.bin", b"abc")
    assert folder.exists("sub/a.bin")
    assert not folder.exists("sub")
    assert folder.read("sub/a.bin") == b"abc"
    assert folder.open("sub/a.bin").read() == b"abc"
    assert (tmp_path / "deep" / "er" / "sub" / "a.bin").read_bytes() == b"abc"


def test_a_relative_folder_is_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Folder("data").write("a", memoryview(b"abc"))
    assert (tmp_path / "data" / "a").read_bytes() == b"abc"


def test_a_slash_at_the_end_is_one_slash():
    assert (Folder("s3://bucket/") / "x").url == "s3://bucket/x"


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            folder.write("a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert folder.read("a") == b"old"


def test_a_full_disk_is_bad_input_and_not_a_crash(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*/a: No space left on device; make"):
        Folder(str(tmp_path)).write("a", b"abc")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_holds_nothing_and_takes_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    folder = Folder(str(tmp_path / "file"))
    assert not folder.exists("a")
    with pytest.raises(InputError, match=r"cannot write .*/file/a: .*--data"):
        folder.write("a", b"abc")


@pytest.mark.parametrize("url", ["nonsense://x", "http://example.org/x"])
def test_foreign_urls_are_refused(url):
    with pytest.raises(InputError, match=f"^folder {url}: expected a path or a URL"):
        Folder(url).exists("a")


@pytest.mark.parametrize(
    ("url", "below"),
    [("s3://", "s3:///a"), ("file:///", "file:///a"), ("/", "/a"), ("s3://b/c/", "s3://b/c/a")],
)
def test_a_url_stays_one_in_the_folders_below(url, below):
    assert (Folder(url) / "a").url == below


def test_a_claim_leaves_no_empty_folder(tmp_path):
    folder = Folder(str(tmp_path / "made"))
    with folder.claimed(b"one"):
        assert (tmp_path / "made").is_dir()
        with folder.claimed(b"one"):
            pass
        assert (tmp_path / "made").is_dir()  # it is still claimed
        with (
            pytest.raises(InputError, match="expected one recipe of this name"),
            folder.claimed(b"other"),
        ):
            pass
    assert list(tmp_path.iterdir()) == []
    with folder.claimed(b"other"):
        folder.write("a", b"abc")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["a"]


def test_removed_files_take_empty_folders_along(tmp_path):
    folder = Folder(str(tmp_path))
    for name in ("a", "sub/b", "sub/c", "other/d"):
        folder.write(name, b"abc")
    folder.remove(["a", "sub/b", "other/d", "none/there"])
    assert folder.files() == ["sub/c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sub"]
