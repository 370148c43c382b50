"""The commands that work on the MLflow registry."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows import bounds
from flows.bounded_option import number
from flows.cli.options import JSON, answer


def rollback_command(
    recipe: Annotated[str, Parameter(help="Recipe whose registered model is rolled back.")],
    /,
    *,
    as_json: JSON = False,
) -> None:
    """Make the version before the champion the champion again; a second call undoes the first.

    Example: slateflow rollback modified-lts-20-2
    """
    from tasks.reports.past_runs import log_rollback
    from tasks.store.champion import rollback
    from tasks.store.tracking import mlflow_client, model_name

    name, client = model_name(recipe), mlflow_client()
    champion, previous = rollback(client, name)
    log_rollback(client, recipe, champion)
    if os.environ.get("PREFECT_API_URL"):  # without a server nobody waits for it
        from tasks.server.lineage import model_rolled_back

        if not model_rolled_back(recipe, name, champion, previous):
            print("Prefect's server did not answer: no event tells of it", file=sys.stderr)
    document = {"name": name, "champion": champion, "previous": previous}
    text = f"{name}: version {champion} is the champion again, before it was {previous}"
    answer(as_json, document, text)


def recommend_command(
    source: Annotated[
        Path,
        Parameter(
            help="Parquet file: user and candidates, of own logs user and items; perhaps step and "
            "history."
        ),
    ],
    out: Annotated[
        Path,
        Parameter(
            help="Parquet file to write: slate, scores, propensity, outside; of own logs items."
        ),
    ],
    /,
    *,
    model: Annotated[str, Parameter(help="URI of the model.")],
    epsilon: Annotated[
        float, number(bounds.Epsilon, "Probability of a random slate, for logs to learn from.")
    ] = 0.0,
    seed: Annotated[
        int | None, number(bounds.Seed, "Seed of the random slates. [default: another each time]")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Answer a Parquet file of requests with slates.

    Example: slateflow recommend --model models:/slateflow-lts-10-1@champion in.parquet o.parquet
    """
    from flows.cli.progress import progress
    from tasks.recommend import recommend

    started = time.monotonic()
    with progress("load the model"):
        rows = recommend(model, source, out, epsilon, seed)
    seconds = time.monotonic() - started
    document = {"path": str(out.absolute()), "rows": rows, "seconds": seconds}
    answer(as_json, document, f"{out}: {rows:,} rows in {seconds:.1f} s")
