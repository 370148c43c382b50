"""Files by URL: a local folder or any filesystem that pyarrow knows (`s3://…`, `gs://…`).

Keys, region and endpoint of an object store come from its own environment variables
(`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` and so on), because URLs are written to logs and runs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from slateflow.errors import InputError, refused
from slateflow.trajectories.files.atomic_files import (
    CLAIM,
    ClaimedError,
    claim,
    link_whole,
    remove_leftovers,
    sync_folder,
    write_whole,
)


@dataclass(frozen=True)
class Folder:
    """A folder on any filesystem, whose files appear whole or not at all.

    All methods raise an `InputError` if a path cannot be read or written (on a full disk, too).
    """

    url: str

    @property
    def _located(self) -> tuple[Any, str]:
        if "://" not in self.url:
            return pafs.LocalFileSystem(), str(Path(self.url).absolute())
        # Another endpoint is another store; a client keeps the endpoint with which it was made.
        return _locate(self.url, os.environ.get("AWS_ENDPOINT_URL"))

    def absolute(self) -> Folder:
        """The folder with an absolute path, for processes with another working directory."""
        return self if "://" in self.url else Folder(self._located[1])

    def __truediv__(self, name: str) -> Folder:
        scheme, mark, path = self.url.rpartition("://")
        return Folder(f"{scheme}{mark}{path.rstrip('/')}/{name}")

    def exists(self, name: str) -> bool:
        """True if the folder has a file of this name."""
        filesystem, path = self._located
        with self._readable(name):
            kind = filesystem.get_file_info(f"{path}/{name}").type
        return bool(kind == pafs.FileType.File)

    def is_there(self) -> bool:
        """True if the folder exists; in an object store, if anything is in it."""
        filesystem, path = self._located
        with self._readable(""):
            kind = filesystem.get_file_info(path).type
        return bool(kind == pafs.FileType.Directory)

    def files(self) -> list[str]:
        """Names of all files that are not hidden, those in subfolders included."""
        return [name for name, _ in self.listing()]

    def listing(self) -> list[tuple[str, Any]]:
        """Names of `files` in their order, and pyarrow's `FileInfo` of each."""
        _, path = self._located
        named = [
            (info.path.removeprefix(path).lstrip("/"), info)
            for info in self._entries(recursive=True)
            if info.type == pafs.FileType.File
        ]
        shown = (one for one in named if one[0].rsplit("/", 1)[-1][0] not in "._")
        return sorted(shown, key=lambda one: one[0])

    def subfolders(self) -> list[str]:
        """Names of the folders in it, hidden ones included, in order."""
        return [one.base_name for one in self._entries() if one.type == pafs.FileType.Directory]

    def size(self) -> int:
        """Bytes of all files in it, hidden ones included."""
        return sum(one.size for one in self._entries(recursive=True) if one.is_file)

    def changed(self) -> float:
        """Time at which a visible file was last written, in seconds since 1970; 0 without any."""
        files = (one for one in self._entries(recursive=True) if one.is_file)
        found = [one.mtime_ns or 0 for one in files if one.base_name[0] != "."]
        return max(found, default=0) / 1e9

    def _entries(self, recursive: bool = False) -> list[Any]:
        filesystem, path = self._located
        selector = pafs.FileSelector(path, allow_not_found=True, recursive=recursive)
        named = refused(
            f"{self.url}: expected names in UTF-8", UnicodeDecodeError, remedy="rename the file"
        )
        with self._readable(""), named:
            return sorted(filesystem.get_file_info(selector), key=lambda one: one.path)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        filesystem, path = self._located
        with self._readable(name), filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def open(self, name: str) -> Any:
        """A file for random access, for Parquet."""
        filesystem, path = self._located
        with self._readable(name):
            return filesystem.open_input_file(f"{path}/{name}")

    def stream(self, name: str) -> Any:
        """A file for reading from its beginning, decompressed according to its ending (`.gz`)."""
        filesystem, path = self._located
        with self._readable(name):
            return filesystem.open_input_stream(f"{path}/{name}")

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a file in one piece; it is invisible until it is complete and on the disk."""
        filesystem, path = self._located
        target = f"{path}/{name}"
        try:
            if isinstance(filesystem, pafs.LocalFileSystem):
                write_whole(Path(target), data)
            else:  # object stores show an object once its stream is closed
                with filesystem.open_output_stream(target) as stream:
                    stream.write(data)
        except OSError as error:
            raise _unwritable(target, error) from error

    def take(self, name: str, other: Folder, there: str) -> None:
        """Give a file of another folder a name here: by a hard link, or by a copy.

        Links are cheap because they are certain to be on the disk only after `settle`.

        Raises:
            InputError: The file cannot be read, or this folder cannot be written to.
        """
        filesystem, path = self._located
        theirs, source = other._located
        with suppress(OSError):  # another disk or store, or a disk without links
            if isinstance(filesystem, pafs.LocalFileSystem):
                if isinstance(theirs, pafs.LocalFileSystem):
                    link_whole(Path(f"{source}/{there}"), Path(f"{path}/{name}"))
                    return
            elif filesystem == theirs:  # within the store
                filesystem.copy_file(f"{source}/{there}", f"{path}/{name}")
                return
        self.write(name, other.read(there))

    def settle(self, names: Iterable[str]) -> None:
        """Flush the entries of files to the disk, those from `take` included."""
        filesystem, path = self._located
        if isinstance(filesystem, pafs.LocalFileSystem):
            for folder in sorted({Path(f"{path}/{name}").parent for name in names}):
                try:
                    sync_folder(folder)
                except OSError as error:
                    raise _unwritable(str(folder), error) from error

    def written(self, name: str) -> float:
        """Time at which a file was written, in seconds since 1970; 0 if there is no such file."""
        filesystem, path = self._located
        with self._readable(name):
            info = filesystem.get_file_info(f"{path}/{name}")
        return (info.mtime_ns or 0) / 1e9 if info.is_file else 0.0

    def remove(self, names: list[str]) -> None:
        """Remove the files that exist, and folders that are then empty."""
        filesystem, path = self._located
        for name in names:
            with suppress(OSError):
                filesystem.delete_file(f"{path}/{name}")
        if isinstance(filesystem, pafs.LocalFileSystem):
            for name in {name.rpartition("/")[0] for name in names} - {""}:
                with suppress(OSError):
                    os.rmdir(f"{path}/{name}")

    def clear(self, first: str) -> None:
        """Remove everything in it, beginning with the file `first`, which marks it as complete.

        Raises:
            InputError: Something cannot be removed, or another process is filling the folder.
        """
        filesystem, path = self._located
        with self.claimed(b"being removed"):
            try:
                if self.exists(first):
                    filesystem.delete_file(f"{path}/{first}")
                for one in self._entries():
                    if one.type == pafs.FileType.Directory:
                        filesystem.delete_dir(one.path)
                    elif one.base_name != CLAIM:
                        filesystem.delete_file(one.path)
            except OSError as error:
                raise InputError(
                    f"cannot remove {path}: {error.strerror or error}; make it writable"
                ) from error

    @contextmanager
    def claimed(self, content: bytes) -> Iterator[None]:
        """Hold the folder, so that only processes with the same `content` fill it meanwhile.

        Half-written files of killed processes are removed first, and the folder at the end if it
        is empty. In object stores, which have neither locks nor half-written files, nothing
        happens.

        Raises:
            InputError: Another process fills it with other content, or it cannot be written to.
        """
        filesystem, path = self._located
        if not isinstance(filesystem, pafs.LocalFileSystem):
            yield
            return
        with ExitStack() as held:
            try:
                held.enter_context(claim(Path(path), content))
            except ClaimedError as error:
                raise InputError(
                    f"{path}: expected one recipe of this name, found another process that makes "
                    "the dataset of another recipe there; wait for it, or choose another name or "
                    "--data"
                ) from error
            except OSError as error:
                raise _unwritable(path, error) from error
            remove_leftovers(Path(path))
            yield

    def _readable(self, name: str) -> AbstractContextManager[None]:
        expected = f"{self.url}/{name}: expected a readable file"
        remedy = "make it readable or choose another folder with --data"
        return refused(expected, OSError, remedy=remedy)


@lru_cache(maxsize=64)
def _locate(url: str, endpoint: str | None) -> tuple[Any, str]:
    """The filesystem of a URL, and the path there; cached, as making a store's client is costly."""
    del endpoint  # pyarrow reads it from the environment
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise InputError(
            f"folder {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: expected "
            "a URL without keys and options; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_DEFAULT_REGION and AWS_ENDPOINT_URL instead"
        )
    expected = f"folder {url}: expected a path or a URL of pyarrow.fs"
    with refused(expected, ValueError, OSError):
        filesystem, path = pafs.FileSystem.from_uri(url)
    return filesystem, path


def _unwritable(target: str, error: OSError) -> InputError:
    reason = error.strerror or str(error).splitlines()[0]
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "make room" if full else "make the folder writable"
    return InputError(
        f"cannot write {target}: {reason}; {remedy} or choose another with --data, and the same "
        "command continues"
    )
