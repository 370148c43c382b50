"""A server of the champion, to copy: `uvicorn server:app`, where FastAPI is installed.

`MODEL` names the registered model, `EPSILON` the share of requests that explore. A request is one
row as JSON; its answer has the version, too. Requests that come while others are answered are
then answered together, up to `TOGETHER` of them, which takes hardly longer than one.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pandas as pd
from consumer import Champion  # lies beside this file
from fastapi import FastAPI, HTTPException, Response
from mlflow.exceptions import MlflowException

MODEL = os.environ["MODEL"]
PARAMS = {"epsilon": float(os.environ.get("EPSILON", "0"))}
TOGETHER = int(os.environ.get("TOGETHER", "64"))
TURNS = 4
"""Turns of the event loop that a request takes from its coming until it waits to be answered."""

Waiting = tuple[dict[str, Any], asyncio.Future[str]]
waiting: asyncio.Queue[Waiting] = asyncio.Queue()


@asynccontextmanager
async def answering(app: FastAPI) -> AsyncIterator[None]:
    """Load the champion, and answer while the server runs."""
    task = asyncio.create_task(answer_all(Champion(MODEL)))
    yield
    task.cancel()


app = FastAPI(lifespan=answering)


@app.post("/recommend")
async def recommend(row: dict[str, Any]) -> Response:
    """The slate for one request."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting.put_nowait((row, answer))
    return Response(await answer, media_type="application/json")


async def answer_all(champion: Champion) -> None:
    """Answer waiting requests together; each by itself where one does not fit."""
    while True:
        batch = [await waiting.get()]
        for _ in range(TURNS):
            await asyncio.sleep(0)
        while not waiting.empty() and len(batch) < TOGETHER:
            batch.append(waiting.get_nowait())
        if not answered(champion, batch, refuse=len(batch) == 1):
            for one in batch:
                answered(champion, [one], refuse=True)


def answered(champion: Champion, batch: list[Waiting], refuse: bool) -> bool:
    """Whether the model has answers for these requests; without, they may be refused."""
    lines: list[Any]
    try:
        frame = pd.DataFrame([row for row, _ in batch])
        columns = champion.served[1].metadata.get_input_schema()
        most, least = columns.input_names(), columns.required_input_names()
        if not set(least) <= set(frame) <= set(most):  # MLflow would drop what is misspelt
            got = ", ".join(map(str, frame)) or "none"
            named = (one if one in least else f"{one} (optional)" for one in most)
            raise MlflowException(f"expected columns {', '.join(named)}, got {got}")
        version, answers = champion.answer(frame, PARAMS)
        rows = answers.to_dict("records")
        lines = [json.dumps({**row, "version": version}) for row in rows]
    except Exception as error:
        if not refuse:
            return False
        bad = isinstance(error, MlflowException)
        lines = [HTTPException(400 if bad else 500, str(error))] * len(batch)
    for (_, answer), line in zip(batch, lines, strict=True):
        if answer.done():  # whoever asked has gone
            continue
        if isinstance(line, Exception):
            answer.set_exception(line)
        else:
            answer.set_result(line)
    return True
