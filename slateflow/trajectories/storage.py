"""Files by URL: a local folder or any filesystem that pyarrow knows (`s3://…`, `gs://…`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from slateflow.errors import InputError


@dataclass(frozen=True)
class Folder:
    """A folder on some filesystem, whose files appear whole or not at all."""

    url: str

    @property
    def _located(self) -> tuple[Any, str]:
        if "://" not in self.url:
            return pafs.LocalFileSystem(), str(Path(self.url).absolute())
        try:
            filesystem, path = pafs.FileSystem.from_uri(self.url)
        except (ValueError, OSError) as error:
            raise InputError(
                f"data folder {self.url}: expected a path or a URL of pyarrow.fs, got {error}"
            ) from error
        return filesystem, path

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url.rstrip('/')}/{name}")

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        filesystem, path = self._located
        kind = filesystem.get_file_info(f"{path}/{name}").type
        return bool(kind == pafs.FileType.File)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        filesystem, path = self._located
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def open(self, name: str) -> Any:
        """A file for random access, for Parquet."""
        filesystem, path = self._located
        return filesystem.open_input_file(f"{path}/{name}")

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a file in one piece: under another name, flushed to the disk, then renamed.

        Raises:
            InputError: The folder cannot be written to.
        """
        filesystem, path = self._located
        target = f"{path}/{name}"
        try:
            if isinstance(filesystem, pafs.LocalFileSystem):
                _write_local(Path(target), data)
            else:  # an object store shows an object when it is complete
                with filesystem.open_output_stream(target) as stream:
                    stream.write(data)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"cannot write {target}: {reason}; make the folder writable or choose another "
                "with --data"
            ) from error


def _write_local(target: Path, data: bytes | memoryview) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The dot keeps it out of every Parquet reader, the process id out of other writers' way.
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
