"""A published dataset: its manifest, its catalogue, and the checks on reading its files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slateflow.environments import EnvironmentSpec, spec_from_dict
from slateflow.errors import InputError, refused
from slateflow.trajectories.catalogue import CATALOGUE, Catalogue
from slateflow.trajectories.encoding import Encoding
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.hold_out import BY_PLACE, HoldOut
from slateflow.trajectories.files.part_files import MAKE_AGAIN, PartFile, part_rows, read_part
from slateflow.trajectories.schema import (
    SCHEMA_VERSION,
    Trajectories,
    column_digest,
    no_rows,
)

MANIFEST = "_manifest.json"
MOST_DATASETS = 3
"""Number of newest datasets searched for days; older ones rarely have further days."""

_BROKEN = (ValueError, KeyError, TypeError, AttributeError)
REMEDY = (
    f"delete its {MANIFEST} and run `slateflow generate` again, "
    "which makes what is damaged and keeps the rest"
)


@dataclass(frozen=True)
class DatasetDay:
    """A day of a dataset: its parts have its key, and the next dataset can take them over."""

    key: str  # digest of everything that determines its rows
    file: dict[str, Any]  # file from which it was read, as a `SourceFile`
    first: int  # number of its first episode
    size: int  # rows at which its parts were closed
    most_steps: int  # rows of its longest session

    @property
    def facts(self) -> str:
        """Name of the file with the day's facts."""
        return f"_day-{self.key}.npz"


@dataclass(frozen=True)
class Dataset:
    """A complete dataset: folder, world, recipe, parts, and the catalogue if rows name items.

    Own logs also have an encoding, which the registry stores with a model.
    """

    folder: Folder
    spec: EnvironmentSpec
    recipe: dict[str, Any]
    parts: tuple[PartFile, ...]
    catalogue: Catalogue | None = field(
        default=None, compare=False, repr=False
    )  # None for the world's own
    encoding: Encoding | None = field(default=None, repr=False)  # None for simulated logs
    hold_out: HoldOut = BY_PLACE
    days: tuple[DatasetDay, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.catalogue is None:
            object.__setattr__(self, "catalogue", Catalogue.of_world(self.spec))

    @property
    def path(self) -> str:
        """Path or URL of the folder."""
        return self.folder.url

    @property
    def rows(self) -> int:
        """Logged steps."""
        return sum(part.rows for part in self.parts)

    @property
    def episodes(self) -> int:
        """Logged episodes."""
        return sum(part.episodes for part in self.parts)

    @property
    def written(self) -> list[datetime]:
        """Times in UTC at which the files of own logs were written; empty for other logs."""
        return [datetime.fromtimestamp(day.file["modified"] / 1e9, UTC) for day in self.days]

    @cached_property
    def digest(self) -> str:
        """`sha256:` over world, digests of the parts in order, and the digest of the catalogue."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "environment": self.spec.to_dict(),
            "parts": [[part.policy, part.sha256] for part in self.parts],
        }
        if self.catalogue is not None:
            document["items"] = self.catalogue.digest
        if self.hold_out != BY_PLACE:
            document["held_out"] = self.hold_out.to_dict()
        encoded = json.dumps(document, sort_keys=True).encode()
        return "sha256:" + hashlib.sha256(encoded).hexdigest()

    @classmethod
    def make_once(cls, folder: Folder, content: bytes, make: Callable[[], Dataset]) -> Dataset:
        """The published dataset of a folder; `make` publishes it unless it exists.

        Args:
            folder: The dataset's folder.
            content: How the dataset is made; processes with the same content share the work.
            make: Called while the folder is claimed.
        """
        if not folder.exists(MANIFEST):
            with folder.claimed(content):
                if not folder.exists(MANIFEST):  # another process may have published it meanwhile
                    return make()
        return cls.open(folder.url)

    @classmethod
    def open(cls, url: str) -> Dataset:
        """Open a published dataset.

        Raises:
            InputError: The manifest is missing, is not one of ours or contradicts itself, or the
                catalogue is not the one that it names.
        """
        folder = Folder(url)
        if not folder.exists(MANIFEST):
            raise InputError(
                f"{url}: expected a dataset with {MANIFEST}, found none; "
                "make it with `slateflow generate`"
            )
        where = f"{url}/{MANIFEST}"
        expected = f"{where}: expected a manifest"
        with refused(expected, *_BROKEN, remedy=REMEDY):
            document = json.loads(folder.read(MANIFEST))
            version = document["schema_version"]
            digest, checksum = document.get("digest"), document.pop("checksum", None)
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{where}: expected schema version {SCHEMA_VERSION}, got {version}; {MAKE_AGAIN}"
            )
        with refused(expected, InputError, *_BROKEN, remedy=REMEDY):
            hold_out = HoldOut.from_dict(document.get("held_out"))
            spec, recipe = spec_from_dict(document["environment"]), document["recipe"]
            encoders = document.get("encoding")
            encoding = encoders and Encoding.from_dict(encoders)
            parts = tuple(PartFile(**part) for part in document["parts"])
            days = tuple(DatasetDay(**day) for day in document.get("days", ()))
            entry = document.get("items")
            named = entry and (entry["path"], entry["sha256"], _remedy(recipe))
        catalogue = named and _read_catalogue(folder, *named)
        dataset = cls(folder, spec, recipe, parts, catalogue, encoding, hold_out, days)
        if dataset.digest != digest:
            raise InputError(
                f"{where}: expected digest {dataset.digest} from its parts, "
                f"got {digest}; {dataset.remedy}"
            )
        if checksum not in (None, _checksum(document)):
            raise InputError(
                f"{where}: expected checksum {_checksum(document)}, got {checksum}; "
                f"{dataset.remedy}"
            )
        return dataset

    @property
    def remedy(self) -> str:
        """Advice for messages about a damaged file of the dataset."""
        return _remedy(self.recipe)

    def publish(self) -> Dataset:
        """Write the catalogue, then the manifest, without which there is no dataset.

        Raises:
            InputError: The folder cannot be written to, or it has other files, which readers that
                do not know the manifest would take for rows of this dataset.
        """
        strangers = sorted(set(self.folder.files()) - {part.path for part in self.parts})
        if strangers:
            raise InputError(
                f"{self.path}/{strangers[0]}: expected only the parts of this dataset, got "
                "another file, perhaps of an unfinished dataset of this name; move it away, and "
                "the same command continues"
            )
        document: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "environment": self.spec.to_dict(),
            "recipe": self.recipe,
            "held_out": self.hold_out.to_dict(),
            "episodes": self.episodes,
            "rows": self.rows,
            "digest": self.digest,
            "parts": [part.to_dict() for part in self.parts],
        }
        self.folder.settle(part.path for part in self.parts)
        if self.catalogue is not None:
            data = self.catalogue.to_bytes()
            self.folder.write(CATALOGUE, data)
            document["items"] = {"path": CATALOGUE, "sha256": hashlib.sha256(data).hexdigest()}
        if self.encoding is not None:
            document["encoding"] = self.encoding.to_dict()
        if self.days:
            document["days"] = [dataclasses.asdict(day) for day in self.days]
        document["checksum"] = _checksum(document)
        self.folder.write(MANIFEST, json.dumps(document, indent=2).encode() + b"\n")
        return self

    def iter_parts(self, *, verify: bool = False) -> Iterator[Trajectories]:
        """The rows, one part in memory at a time.

        Args:
            verify: Recompute each part's digest from the rows.

        Raises:
            InputError: A part is missing or unreadable, or differs from the manifest.
        """
        for part in self.parts:
            yield self.part(part, verify=verify)

    def part(self, part: PartFile, *, verify: bool = False) -> Trajectories:
        """The rows of a part; see `iter_parts`."""
        rows = read_part(self.folder, part.path, self.spec, self.remedy, self.catalogue)
        if verify and column_digest(rows) != part.sha256:
            raise self._corrupt(part, "its digest does not match the manifest")
        if len(rows) != part.rows:
            raise self._corrupt(part, f"expected {part.rows} rows, got {len(rows)}")
        return rows

    def has(self, part: PartFile, schema: pa.Schema) -> bool:
        """True if a part exists with its rows and these columns; reads only its footer."""
        try:
            with self.folder.open(part.path) as file:
                footer = pq.ParquetFile(file)
                alike = footer.schema_arrow.remove_metadata().equals(schema)
                return bool(footer.metadata.num_rows == part.rows and alike)
        except (InputError, pa.ArrowException, OSError):
            return False

    def check(self) -> Dataset:
        """Check that every part exists with the manifest's number of rows; reads only footers."""
        for part in self.parts:
            rows = part_rows(self.folder, part.path, self.remedy)
            if rows != part.rows:
                raise self._corrupt(part, f"expected {part.rows} rows, got {rows}")
        return self

    def verify(self) -> Dataset:
        """Read everything, compare it with the manifest, and return the dataset itself."""
        for _ in self.iter_parts(verify=True):
            pass
        return self

    def read(self) -> Trajectories:
        """All rows at once."""
        parts = list(self.iter_parts())
        return Trajectories.from_parts(parts or [no_rows(self.spec, self.catalogue)])

    def _corrupt(self, part: PartFile, what: str) -> InputError:
        return InputError(f"{self.path}/{part.path}: {what}; {self.remedy}")


def differing_keys(given: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Keys in which two recipes differ, or which only one of them has."""
    return [key for key in wanted | given if given.get(key) != wanted.get(key)]


def remove_unpublished(folder: Folder, parts: Iterable[str]) -> None:
    """Remove the parts, by their paths, and the catalogue of a dataset that could not be made.

    Another process may have published it meanwhile; then they stay.
    """
    if not folder.exists(MANIFEST):
        folder.remove([CATALOGUE, *parts])


def of_recipe(dataset: Dataset, recipe: dict[str, Any], spec: EnvironmentSpec | None) -> Dataset:
    """The dataset itself, if it is complete and was made by this recipe in this world.

    Raises:
        InputError: The dataset was made by another recipe, or in another world.
    """
    changed = differing_keys(dataset.recipe, recipe)
    if changed or (spec is not None and dataset.spec != spec):
        raise InputError(
            f"{dataset.path}: expected the dataset of this recipe, found one with other "
            f"{', '.join(changed) or 'defaults'}; a published dataset never changes, so rename "
            "the recipe or delete the dataset"
        )
    return dataset.check()


def newest_datasets(
    data: Folder, prefix: str, without: str, fits: Callable[[Dataset], bool]
) -> list[Dataset]:
    """The newest published datasets of a folder that fit, whose days may be taken over.

    Args:
        data: Folder of datasets.
        prefix: Beginning of their names.
        without: Name of a dataset that is left out.
        fits: Whether a dataset counts; at most `MOST_DATASETS` do.
    """
    names = [name for name in data.subfolders() if name.startswith(prefix) and name != without]
    written = {name: (data / name).written(MANIFEST) for name in names}
    found: list[Dataset] = []
    for name in sorted((name for name in names if written[name]), key=lambda name: -written[name]):
        if len(found) < MOST_DATASETS:
            with suppress(InputError):  # damaged, or of another version
                dataset = Dataset.open((data / name).url)
                found += [dataset] if fits(dataset) else []
    return found


def _remedy(recipe: dict[str, Any]) -> str:
    return "delete the dataset and import it again" if "imported" in recipe else REMEDY


def _read_catalogue(folder: Folder, name: str, digest: str, remedy: str) -> Catalogue:
    """The catalogue that a manifest names; raises if it differs from the published catalogue."""
    where = f"{folder.url}/{name}"
    if not folder.exists(name):
        raise InputError(f"{where}: expected the catalogue of the dataset, found none; {remedy}")
    data = folder.read(name)
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(f"{where}: its digest does not match the manifest; {remedy}")
    return Catalogue.from_bytes(data, where)


def _checksum(document: dict[str, Any]) -> str:
    """SHA-256 over the whole manifest; a dataset's digest leaves out recipe, names and sizes."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
