"""The commands that work on the MLflow registry. They need no Prefect."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_registry_commands(add: Callable[..., Any]) -> None:
    """Add them to the command line."""
    rollback = add("rollback", _rollback, "put the version before the champion back")
    rollback.add_argument("model", metavar="MODEL", help="registered model, or its environment")

    recommend = add("recommend", _recommend, "answer a Parquet file of requests with slates")
    recommend.add_argument("--model", metavar="URI", required=True, help="models:/NAME@champion")
    recommend.add_argument("source", metavar="IN", help="Parquet: user, candidates, step")
    recommend.add_argument("out", metavar="OUT", help="Parquet to write: slate, scores")


def _rollback(options: argparse.Namespace) -> None:
    from slateflow.environments import presets
    from tasks.store.champion import rollback
    from tasks.store.tracking import mlflow_client, model_name

    name = model_name(options.model) if options.model in presets() else options.model
    champion, previous = rollback(mlflow_client(), name)
    if options.json:
        print(json.dumps({"name": name, "champion": champion, "previous": previous}))
    else:
        print(f"{name}: version {champion} is the champion again, before it was {previous}")


def _recommend(options: argparse.Namespace) -> None:
    from flows.cli.console import progress
    from tasks.recommend import recommend

    started = time.monotonic()
    with progress("load the model"):
        rows = recommend(options.model, Path(options.source), Path(options.out))
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps({"path": options.out, "rows": rows, "seconds": seconds}))
    else:
        print(f"{options.out}: {rows:,} rows in {seconds:.1f} s")
