"""The commands that take a dataset as it is: export, import, describe. They need no Prefect."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slateflow.trajectories import Dataset, Folder
    from slateflow.trajectories.description.describe import Description

DATASETS = Path(__file__).parents[2] / "datasets"


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

    describe = add("describe", _describe, "what is in a dataset, as a table and a page with plots")
    _add_dataset(describe)
    describe.add_argument("--page", metavar="FILE", help="HTML file to write the plots to")


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
    from slateflow.trajectories.exchange.export import export

    dataset = _dataset(options)
    out = export(dataset, options.format, Path(options.out))
    if options.json:
        print(json.dumps({"path": str(out), "format": options.format, "digest": dataset.digest}))
    else:
        print(f"{out}: {dataset.episodes:,} episodes, {dataset.rows:,} steps for {options.format}")


def _import(options: argparse.Namespace) -> None:
    from slateflow.errors import InputError
    from slateflow.trajectories.exchange.importing import import_logs

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


def _describe(options: argparse.Namespace) -> None:
    from slateflow.trajectories.description.describe import describe

    description = describe(_dataset(options))
    if options.page:
        _write_page(description, Path(options.page))
    if options.json:
        print(json.dumps(description.to_dict()))
        return
    _show(description)
    if options.page:
        print(f"Look at it   {options.page}")


def _write_page(description: Description, path: Path) -> None:
    from slateflow.errors import InputError
    from slateflow.trajectories.description.page import page

    try:
        path.write_text(page(description), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; choose another file with --page"
        ) from error


def _show(description: Description) -> None:
    """The figures as two tables."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from slateflow.trajectories.description.page import propensity_range

    output = Console()
    output.print(f"{description.path}: {description.environment}", soft_wrap=True)
    output.print(f"{description.episodes:,} episodes, {description.steps:,} steps")
    output.print(description.digest, soft_wrap=True)
    if not description.policies:
        return
    policies = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    overlap = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in ("policy", "share", "episodes", "return", "clicks", "propensity"):
        policies.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    overlap.add_column("logs of", no_wrap=True)
    for one in description.policies[0].overlap:
        overlap.add_column(f"{one.target} covered", justify="right")
        overlap.add_column("effective", justify="right")
    for policy in description.policies:
        policies.add_row(
            policy.policy,
            f"{policy.share:.1%}",
            f"{policy.episodes:,}",
            f"{policy.mean:,.2f} ± {policy.sem:.2f}",
            f"{policy.clicks:.1%}",
            propensity_range(policy),
        )
        figures = [figure for one in policy.overlap for figure in (one.coverage, one.effective)]
        overlap.add_row(policy.policy, *(f"{figure:.2%}" for figure in figures))
    output.print(policies)
    output.print(overlap)
    note = "covered: mean importance weight; effective: share of the steps, by Kish"
    output.print(note, style="dim")
