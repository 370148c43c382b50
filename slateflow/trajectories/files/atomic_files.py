"""Files on a local disk that appear whole or not at all, even if the writing process is killed.

The process that writes a temporary file locks it (`flock`). A lock ends with its process, so a file
that can be locked has no owner any more and may be removed, without trust in clocks or process
numbers. All calls go through `os`, one for each step, because `tests/crash` kills the process at
every one of them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

CLAIM = ".making.json"
"""The file with a folder's recipe while the folder is being filled. The dot hides it."""

_TEMPORARY = ".tmp"


class ClaimedError(Exception):
    """Another process is filling the folder with other content."""


def write_whole(target: Path, data: bytes | memoryview) -> None:
    """Write under a hidden name, flush to the disk, rename, and flush the folder's entry."""
    make_folder(target.parent)
    descriptor, temporary = _new_temporary(target)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    sync_folder(target.parent)


def link_whole(source: Path, target: Path) -> None:
    """Give a whole file another name by a hard link; `sync_folder` flushes the link to the disk.

    Raises:
        OSError: The file does not exist, or the filesystem has no links.
    """
    make_folder(target.parent)
    with suppress(FileNotFoundError):
        if os.path.samefile(source, target):  # a rename would then leave both names
            return
    temporary = target.with_name(f".{target.name}.{uuid4().hex}{_TEMPORARY}")
    os.link(source, temporary)
    os.replace(temporary, target)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and flush each entry to the disk."""
    missing = [folder] if not folder.is_dir() else []
    while missing and not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(path)
        sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote."""
    for path in folder.rglob(f".*{_TEMPORARY}"):
        with suppress(OSError):  # another process cleans too, or we may not write here
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(descriptor)


@contextmanager
def claim(folder: Path, content: bytes) -> Iterator[None]:
    """Hold the folder for everyone who would fill it with the same content.

    Raises:
        ClaimedError: A process that is still alive fills it with other content.
    """
    descriptor = _take_claim(folder / CLAIM, content)
    try:
        yield
    finally:
        # The last process to leave removes the file, and the folder if it is empty.
        if _locked_alone(descriptor):
            with suppress(FileNotFoundError):
                os.unlink(folder / CLAIM)
            with suppress(OSError):
                os.rmdir(folder)
        os.close(descriptor)


def _take_claim(path: Path, content: bytes) -> int:
    while True:
        make_folder(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder was empty, and the last process removed it
            continue
        try:
            if _locked_alone(descriptor) and os.pread(descriptor, 1 << 20, 0) != content:
                os.ftruncate(descriptor, 0)
                _write_all(descriptor, content)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_nlink:  # not removed by the last process that left
                if os.pread(descriptor, 1 << 20, 0) != content:
                    raise ClaimedError
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _locked_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _new_temporary(target: Path) -> tuple[int, Path]:
    while True:
        temporary = target.with_name(f".{target.name}.{uuid4().hex}{_TEMPORARY}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)  # another process cleaned up between the two calls above


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
