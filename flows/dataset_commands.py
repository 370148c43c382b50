"""The commands that take a dataset as it is: export and import. They need no Prefect."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slateflow.trajectories import Dataset, Folder

DATASETS = Path(__file__).parents[1] / "datasets"


def add_dataset_commands(add: Callable[..., Any]) -> None:
    """Add them to the command line."""
    export = add("export", _export, "write a dataset for another library")
    export.add_argument("--format", required=True, help="rllib, minari or d3rlpy")
    _add_dataset(export)
    export.add_argument("out", metavar="OUT", help="folder to make")

    importing = add("import", _import, "check logs from elsewhere and make a dataset of them")
    importing.add_argument(
        "source", metavar="SOURCE", help="file or folder: Parquet in our schema, or RLlib's JSON"
    )
    importing.add_argument("name", metavar="NAME", help="name of the dataset")
    importing.add_argument("--environment", metavar="PRESET", help="world that the logs are from")
    _add_data(importing)


def _add_dataset(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET", help="name, path or URL")
    _add_data(command)


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", metavar="URL", help="folder of the datasets, or a URL")


def _data(options: argparse.Namespace) -> Folder:
    from slateflow.trajectories import Folder

    return Folder(options.data or str(DATASETS))


def _dataset(options: argparse.Namespace) -> Dataset:
    """By name, or by path where it has a slash."""
    from slateflow.trajectories import Dataset

    name = options.dataset
    return Dataset.open(name if "/" in name else (_data(options) / name).url)


def _export(options: argparse.Namespace) -> None:
    from slateflow.trajectories.export import export

    dataset = _dataset(options)
    out = export(dataset, options.format, Path(options.out))
    if options.json:
        print(json.dumps({"path": str(out), "format": options.format, "digest": dataset.digest}))
    else:
        print(f"{out}: {dataset.episodes:,} episodes, {dataset.rows:,} steps for {options.format}")


def _import(options: argparse.Namespace) -> None:
    from slateflow.errors import InputError
    from slateflow.trajectories.importing import import_logs

    if (DATASETS / f"{options.name}.toml").exists():
        raise InputError(
            f"name: expected one that no recipe has, got {options.name}; choose another"
        )
    dataset = import_logs(Path(options.source), options.name, _data(options), options.environment)
    if options.json:
        document = {"path": dataset.path, "digest": dataset.digest, "rows": dataset.rows}
        print(json.dumps(document))
    else:
        print(f"{dataset.path}: {dataset.episodes:,} episodes, {dataset.rows:,} rows")
        print(dataset.digest)
