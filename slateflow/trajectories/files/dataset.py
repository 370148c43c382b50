"""A published dataset: its manifest, and the checks that stand between its files and a reader."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from slateflow.environments import EnvironmentSpec, spec_from_dict
from slateflow.errors import InputError
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import Part, part_rows, read_part
from slateflow.trajectories.schema import (
    SCHEMA_VERSION,
    Trajectories,
    column_digest,
    no_rows,
)

MANIFEST = "_manifest.json"
REMEDY = (
    f"delete its {MANIFEST} and run `slateflow generate` again, "
    "which makes what is damaged and keeps the rest"
)


@dataclass(frozen=True)
class Dataset:
    """A complete dataset: folder, world, recipe and parts."""

    folder: Folder
    spec: EnvironmentSpec
    recipe: dict[str, Any]
    parts: tuple[Part, ...]

    @property
    def path(self) -> str:
        """Where it is: a path or a URL."""
        return self.folder.url

    @property
    def rows(self) -> int:
        """Logged steps."""
        return sum(part.rows for part in self.parts)

    @property
    def episodes(self) -> int:
        """Logged episodes."""
        return sum(part.episodes for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """`sha256:` over the world and the digests of the parts in their order."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "environment": self.spec.to_dict(),
            "parts": [[part.policy, part.sha256] for part in self.parts],
        }
        encoded = json.dumps(document, sort_keys=True).encode()
        return "sha256:" + hashlib.sha256(encoded).hexdigest()

    @classmethod
    def open(cls, url: str) -> Dataset:
        """Open a published dataset.

        Raises:
            InputError: There is no manifest, or it is not one of ours, or it contradicts itself.
        """
        folder = Folder(url)
        if not folder.exists(MANIFEST):
            raise InputError(
                f"{url}: expected a dataset with {MANIFEST}, found none; "
                "make it with `slateflow generate`"
            )
        try:
            document = json.loads(folder.read(MANIFEST))
            version = document["schema_version"]
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"{url}/{MANIFEST}: expected schema version {SCHEMA_VERSION}, got {version}; "
                    "read it with the Slateflow that wrote it"
                )
            dataset = cls(
                folder=folder,
                spec=spec_from_dict(document["environment"]),
                recipe=document["recipe"],
                parts=tuple(Part(**part) for part in document["parts"]),
            )
            digest, checksum = document["digest"], document.pop("checksum", None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError) and f"{url}/" in str(error):
                raise
            what = error if isinstance(error, InputError) else repr(error)
            raise InputError(
                f"{url}/{MANIFEST}: expected a manifest, got {what}; {REMEDY}"
            ) from error
        if dataset.digest != digest:
            raise InputError(
                f"{url}/{MANIFEST}: expected digest {dataset.digest} from its parts, "
                f"got {digest}; {dataset.remedy}"
            )
        if checksum not in (None, _checksum(document)):
            raise InputError(
                f"{url}/{MANIFEST}: expected checksum {_checksum(document)}, got {checksum}; "
                f"{dataset.remedy}"
            )
        return dataset

    @property
    def remedy(self) -> str:
        """What to do when a file of it is damaged."""
        if "imported" in self.recipe:
            return "delete the dataset and import it again"
        return REMEDY

    def publish(self) -> Dataset:
        """Write the manifest. Before it stands, there is no dataset.

        Raises:
            InputError: The folder cannot be written to, or other files are in it, which readers
                that know nothing of the manifest would take for rows of this dataset.
        """
        strangers = sorted(set(self.folder.files()) - {part.path for part in self.parts})
        if strangers:
            raise InputError(
                f"{self.path}/{strangers[0]}: expected only the parts of this dataset, got "
                "another file, perhaps of an unfinished one of this name; move it away, and the "
                "same command goes on where it stopped"
            )
        document = {
            "schema_version": SCHEMA_VERSION,
            "environment": self.spec.to_dict(),
            "recipe": self.recipe,
            "episodes": self.episodes,
            "rows": self.rows,
            "digest": self.digest,
            "parts": [dataclasses.asdict(part) for part in self.parts],
        }
        document["checksum"] = _checksum(document)
        self.folder.write(MANIFEST, json.dumps(document, indent=2).encode() + b"\n")
        return self

    def iter_parts(self, verify: bool = False) -> Iterator[Trajectories]:
        """The rows, one part in memory at a time.

        Args:
            verify: Recompute each part's digest from what was read.

        Raises:
            InputError: A part is missing, unreadable or not what the manifest says.
        """
        for part in self.parts:
            rows = read_part(self.folder, part.path, self.spec, self.remedy)
            if verify and column_digest(rows) != part.sha256:
                raise self._corrupt(part, "its digest does not match the manifest")
            if len(rows) != part.rows:
                raise self._corrupt(part, f"expected {part.rows} rows, got {len(rows)}")
            yield rows

    def check(self) -> Dataset:
        """Look that every part is there and as long as the manifest says; reads footers only."""
        for part in self.parts:
            rows = part_rows(self.folder, part.path, self.remedy)
            if rows != part.rows:
                raise self._corrupt(part, f"expected {part.rows} rows, got {rows}")
        return self

    def verify(self) -> Dataset:
        """Read everything and compare it with the manifest; the dataset itself if all is well."""
        for _ in self.iter_parts(verify=True):
            pass
        return self

    def read(self) -> Trajectories:
        """All rows at once."""
        return Trajectories.joined(list(self.iter_parts()) or [no_rows(self.spec)])

    def _corrupt(self, part: Part, what: str) -> InputError:
        return InputError(f"{self.path}/{part.path}: {what}; {self.remedy}")


def _checksum(document: dict[str, Any]) -> str:
    """Over all that the manifest says; the digest leaves out what other files may differ in."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
