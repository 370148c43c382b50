"""The files of a source, named by a path, a folder or a glob, on any filesystem of pyarrow."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from slateflow.errors import InputError
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.sources.row_sample import RowSample, overlapping

_AHEAD = timedelta(hours=24)
"""Time by which the clock of a file's writer may be ahead of ours."""


@dataclass(frozen=True)
class SourceFile:
    """A file with logs."""

    name: str  # relative to the source's folder
    size: int  # bytes
    modified: int  # nanoseconds since 1970


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source, in the order of their names."""

    folder: Folder
    files: tuple[SourceFile, ...]
    items: str = ""  # digest of the file that describes the items; empty where there is none

    def path(self, file: SourceFile) -> str:
        """Path of a file, for messages."""
        return f"{self.folder.url.rstrip('/')}/{file.name}"

    @property
    def digest(self) -> str:
        """Digest of the contents of all files, which are read for it."""
        return hashlib.sha256("".join(map(self.digest_of, self.files)).encode()).hexdigest()

    def digest_of(self, file: SourceFile) -> str:
        """Digest of a file's content, which is read for it."""
        with self.folder.open(file.name) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def check_copies(self, contents: Mapping[SourceFile, str]) -> None:
        """Refuse copies among files of the source, whose rows would count twice.

        Args:
            contents: Digest of each file's rows; files without one are compared byte by byte.

        Raises:
            InputError: Two files have the same rows.
        """
        sizes = Counter(file.size for file, content in contents.items() if not content)
        known: dict[str, SourceFile] = {}
        for file, content in contents.items():
            if not content and sizes[file.size] < 2:
                continue
            same = known.setdefault(content or self.digest_of(file), file)
            if same is not file:
                alike = "rows" if content else "bytes"
                raise InputError(
                    f"{self.path(file)}: expected each file's logs once, got the {alike} of "
                    f"{same.name}; move one of the two away"
                )

    def check_overlaps(self, samples: Mapping[SourceFile, RowSample], timed: bool) -> None:
        """Refuse files that have rows in common, as exports of "everything so far" do.

        Args:
            samples: Samples of the files' rows.
            timed: Whether rows have a time.

        Raises:
            InputError: Two files overlap.
        """
        files = list(samples)
        for first, second, share in overlapping(list(samples.values()), timed):
            raise InputError(
                f"{self.path(files[second])}: expected each decision once, got about {share:.0%} "
                f"of its rows, or of those of {files[first].name}, in both; give each night's "
                "file only that night's decisions, or keep only the last of these files"
            )

    def check_repeats(self, copied: Mapping[SourceFile, float]) -> None:
        """Refuse a file that has rows twice, by the share of its rows that copy an earlier one.

        Raises:
            InputError: A file has rows twice.
        """
        for file, share in copied.items():
            if share:
                raise InputError(
                    f"{self.path(file)}: expected each decision once, got about {share:.0%} of the "
                    "rows a second time, equal in every column and in time; remove the duplicates"
                )

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Ensure that the files do not change while the block reads them.

        Raises:
            InputError: A file was written or removed meanwhile. It replaces errors of the block.
        """
        try:
            yield
        except Exception:
            self._check_unchanged()
            raise
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        now = {name: (info.size, info.mtime_ns or 0) for name, info in self.folder.listing()}
        for file in self.files:
            if now.get(file.name) != (file.size, file.modified):
                raise InputError(
                    f"{self.path(file)}: expected a file that is complete, got one that was "
                    "written or removed while it was read; write it under another name and rename "
                    "it, and try again"
                )

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change when a file is added, removed or written.

        The items' file counts by its content, as a shop may rewrite it every night.
        """
        found: list[object] = [[file.name, file.size, file.modified] for file in self.files]
        found += [self.items] * bool(self.items)
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:8]


def resolve_beside(source: str, beside: str) -> str:
    """A URL or an absolute path unchanged; any other path relative to the folder `beside`."""
    return source if "://" in source else str(Path(beside) / source)


def find_files(
    source: str,
    endings: tuple[str, ...],
    newest: int | None = None,
    without: str = "",
    field: str = "source",
) -> SourceFiles:
    """The files that a path, a folder or a glob names.

    A glob has `*`, `?`, and `**` for any folders. Hidden files are skipped.

    Args:
        source: Path or URL.
        endings: Allowed endings of the files' names.
        newest: Number of files to take, those written last; None for all.
        without: Path or URL of a file in the folder that is not a log.
        field: The recipe's field, for messages.

    Raises:
        InputError: No file is found, or one has another ending, or is a folder.
    """
    whole = source.rstrip("/")
    base, pattern = _split(whole)
    folder = Folder(base)
    listed = folder.listing()
    found = [
        SourceFile(name, info.size, info.mtime_ns or 0)
        for name, info in listed
        if pattern.fullmatch(name)
        and not _same(f"{base}/{name}", without)
        and not any(part[0] in "._" for part in name.split("/"))
    ]
    expected = f"{field} {source}: expected files that end with {', '.join(endings)}"
    for file in found:
        if not file.name.endswith(endings):
            named = pattern.pattern == re.escape(file.name)
            remedy = "write it as one" if named else "move it away or name the files by *"
            raise InputError(f"{expected}, got {file.name}; {remedy}")
    for name in (name for name, _ in listed if not pattern.fullmatch(name)):
        for above in map(str, PurePosixPath(name).parents):
            if above.endswith(endings) and pattern.fullmatch(above):  # as Spark writes it
                remedy = "name the files in all folders by **/*, or one folder by its name"
                raise InputError(f"{expected}, got the folder {above}; {remedy}")
    if not found:
        raise InputError(
            f"{expected}, found none; name a file, a folder or files by *, ? and **, relative to "
            "the recipe, or a URL"
        )
    if newest is not None:
        _check_times(folder, found)
        kept = {file.name for file in sorted(found, key=lambda one: one.modified)[-newest:]}
        found = [file for file in found if file.name in kept]
    return SourceFiles(folder, tuple(found))


def _same(one: str, other: str) -> bool:
    """True if two paths or URLs name the same file."""
    if "://" in one or "://" in other or not other:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)


def _check_times(folder: Folder, files: list[SourceFile]) -> None:
    """Refuse files dated in the future, which would remain among the newest."""
    now = datetime.now(UTC)
    for file in files:
        if file.modified / 1e9 > (now + _AHEAD).timestamp():
            raise InputError(
                f"{folder.url}/{file.name}: expected a time of writing in the past, because `days` "
                f"counts by it, got one after {now:%Y-%m-%d %H:%M} UTC; `touch` the file, or "
                "correct the clock"
            )


def _split(source: str) -> tuple[str, re.Pattern[str]]:
    """The folder above the first wildcard, or the folder or file itself, and a pattern of names."""
    parts = source.split("/")
    first = next((place for place, part in enumerate(parts) if set(part) & set("*?")), None)
    if first is None:
        parent, _, name = source.rpartition("/")
        if Folder(parent or ".").exists(name):
            return parent or ".", re.compile(re.escape(name))
        return source, re.compile(".*")
    words = re.split(r"(\*\*/|\*\*|\*|\?)", "/".join(parts[first:]))
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "/".join(parts[:first]), re.compile("".join(wild.get(w, re.escape(w)) for w in words))
