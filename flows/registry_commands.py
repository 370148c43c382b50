"""The commands that work on the MLflow registry. They need no Prefect."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any


def add_registry_commands(add: Callable[..., Any]) -> None:
    """Add them to the command line."""
    rollback = add("rollback", _rollback, "put the version before the champion back")
    rollback.add_argument("model", metavar="MODEL", help="registered model, or its environment")


def _rollback(options: argparse.Namespace) -> None:
    from slateflow.environments import PRESETS
    from tasks.champion import rollback
    from tasks.tracking import mlflow_client, model_name

    name = model_name(options.model) if options.model in PRESETS else options.model
    champion, previous = rollback(mlflow_client(), name)
    if options.json:
        print(json.dumps({"name": name, "champion": champion, "previous": previous}))
    else:
        print(f"{name}: version {champion} is the champion again, before it was {previous}")
