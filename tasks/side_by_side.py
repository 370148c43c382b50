"""Processes in which the tasks of a flow run compute at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from slateflow.side_by_side import Workers, workers

PROCESSORS = os.cpu_count() or 1
"""Calls that run at the same time, at most."""


@dataclass(frozen=True)
class Crew:
    """Workers, and how many calls share the machine at the same time."""

    workers: Workers
    at_once: int


_CREW: ContextVar[Crew | None] = ContextVar("crew", default=None)


@contextmanager
def side_by_side(calls: int) -> Iterator[Crew]:
    """Workers for the block, at most one for each processor: those of the block around it, if any.

    They end with the outermost block, or where a block fails.

    Args:
        calls: How many there will be.
    """
    around = _CREW.get()
    if around is None:
        with workers(PROCESSORS) as made, _set(Crew(made, min(calls, PROCESSORS))) as crew:
            yield crew
        return
    try:
        with _set(Crew(around.workers, min(calls, PROCESSORS))) as crew:
            yield crew
    except BaseException:
        around.workers.end()
        raise


@contextmanager
def _set(crew: Crew) -> Iterator[Crew]:
    token = _CREW.set(crew)
    try:
        yield crew
    finally:
        _CREW.reset(token)


def current_crew() -> Crew:
    """The crew of the block of `side_by_side` that this is in."""
    crew = _CREW.get()
    assert crew is not None
    return crew
