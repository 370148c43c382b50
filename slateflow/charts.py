"""Every chart of pages and reports, as SVG text.

Not matplotlib: three histograms take it 1.1 s, most of it the import, and 66 kB; here they take
0.01 s and 27 kB. Colours are CSS variables, so that a page can be light or dark, bars carry
tooltips, and a report in Prefect holds its chart in a link.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, LEFT, RIGHT, BOTTOM = 720, 64, 16, 44
SERIES = 6
"""Colours that a page defines, `--series-0` and on; more series begin anew."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Histogram:
    """Counts between edges, with a mark and a note."""

    name: str
    edges: Floats  # (bins + 1,)
    counts: NDArray[np.integer[Any]]  # (bins,)
    mark: float | None = None  # a line, such as the mean
    note: str = ""


@dataclass(frozen=True)
class Line:
    """Values over x, and a straight line through them."""

    name: str
    x: NDArray[np.integer[Any]]  # (T,)
    y: Floats  # (T,)
    slope: float
    intercept: float


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`.

    Example:
        >>> ticks(0.13, 1.02)
        [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [round(number * step, decimals) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Interval:
    """A value and its 95% interval."""

    name: str
    value: float
    low: float
    high: float
    highlighted: bool = False


def slope_text(slope: float) -> str:
    """A slope for people.

    Example:
        >>> slope_text(-0.0029361)
        '−0.0029 a step'
    """
    return f"{slope:+.2g} a step".replace("-", "−")


def histograms(rows: Sequence[Histogram], title: str, label: str, powers: bool = False) -> str:
    """Histograms below each other on one axis, each as high as its own largest bin.

    With `powers` the edges are powers of ten.
    """
    tick: Callable[[float], str] = _power if powers else "{:g}".format
    low = min(float(row.edges[0]) for row in rows)
    high = max(float(row.edges[-1]) for row in rows)
    band, left = 62, 132
    x = _scale(low, high, left, WIDTH - RIGHT)
    height = band * len(rows) + BOTTOM
    values = [value for value in ticks(low, high) if not powers or value == round(value)]
    marks = [_x_axis(x, values, height, label, tick)]
    for number, row in enumerate(rows):
        base, colour = band * (number + 1), f"var(--series-{number % SERIES})"
        heights = row.counts / max(1, row.counts.max()) * (band - 16)
        for count, tall, start, end in zip(
            row.counts, heights, row.edges[:-1], row.edges[1:], strict=True
        ):
            if count:
                wide = max(x(float(end)) - x(float(start)) - 0.5, 1.5)
                marks.append(
                    f'<rect x="{x(float(start)):.1f}" y="{base - tall:.1f}" width="{wide:.1f}" '
                    f'height="{tall:.1f}" fill="{colour}"><title>{escape(tick(float(start)))} to '
                    f"{escape(tick(float(end)))}: {count:,}</title></rect>"
                )
        if row.mark is not None:
            at = x(row.mark)
            marks.append(
                f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{base - band + 10}" '
                f'y2="{base}"/>'
            )
        marks.append(
            f'<line class="axis" x1="{left}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
            f'<text class="name" x="{left - 10}" y="{base - 22}" text-anchor="end">'
            f"{escape(row.name)}</text>"
            f'<text x="{left - 10}" y="{base - 6}" text-anchor="end">{escape(row.note)}</text>'
        )
    return _svg(height, title, marks)


def lines(series: Sequence[Line], title: str, label: str) -> str:
    """Values over the step, faint, and their trends, strong."""
    low_x = min(float(line.x[0]) for line in series)
    high_x = max(float(line.x[-1]) for line in series)
    trends = [line.intercept + line.slope * line.x[[0, -1]] for line in series]
    ends = np.concatenate([*(line.y for line in series), *trends])
    low_y, high_y = _padded(float(ends.min()), float(ends.max()))
    height = 300
    x = _scale(low_x, max(high_x, low_x + 1), LEFT, WIDTH - RIGHT)
    y = _scale(low_y, high_y, height - BOTTOM, 12)
    marks = [_x_axis(x, ticks(low_x, high_x), height, label)]
    for value in ticks(low_y, high_y, 6):
        marks.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{LEFT - 8}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:g}</text>'
        )
    for number, line in enumerate(series):
        colour = f"var(--series-{number % SERIES})"
        path = " ".join(
            f"{x(float(a)):.1f},{y(float(b)):.1f}" for a, b in zip(line.x, line.y, strict=True)
        )
        marks.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1" '
            'opacity="0.4"/>'
        )
    for number, (line, (start, end)) in enumerate(zip(series, trends, strict=True)):
        marks.append(
            f'<line x1="{x(float(line.x[0])):.1f}" x2="{x(float(line.x[-1])):.1f}" '
            f'y1="{y(float(start)):.1f}" y2="{y(float(end)):.1f}" '
            f'stroke="var(--series-{number % SERIES})" stroke-width="2.5" stroke-linecap="round">'
            f"<title>{escape(line.name)}: {slope_text(line.slope)}</title></line>"
        )
    return _svg(height, title, marks)


def intervals(rows: Sequence[Interval], marks: dict[str, float], title: str) -> str:
    """Values as dots with their intervals, one below the other, and named lines across.

    The picture stands alone, with colours of its own, for pages without our style.
    """
    width, left, row_height = 640, 110, 26
    values = [row.value for row in rows] + list(marks.values())
    margin = 0.06 * (max(values) - min(values)) or 1.0
    x = _scale(min(values) - margin, max(values) + margin, left, width - 20)
    height = row_height * len(rows) + 34
    drawn = [
        f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="4" y2="{height - 26}" '
        f'stroke="{colour}" stroke-dasharray="4 3"/>'
        f'<text x="{x(value):.1f}" y="{height - 8}" text-anchor="middle" fill="{colour}">'
        f"{escape(name)} {value:.1f}</text>"
        for (name, value), colour in zip(marks.items(), cycle(("#8a8f98", "#2e9e5b")), strict=False)
    ]
    for index, row in enumerate(rows):
        y = 16 + row_height * index
        colour = "#3b82f6" if row.highlighted else "#8a94a3"
        drawn.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end" fill="{colour}">'
            f"{escape(row.name)}</text>"
            f'<line x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x(row.value):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">{"".join(drawn)}</svg>'
    )


def data_uri(svg: str) -> str:
    """A link that carries the picture."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _power(exponent: float) -> str:
    return f"{10**exponent:.3g}"


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - margin, high + margin


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * (value - low) / ((high - low) or 1.0)


def _x_axis(
    x: Callable[[float], float],
    values: Sequence[float],
    height: float,
    label: str,
    tick: Callable[[float], str] = "{:g}".format,
) -> str:
    base = height - BOTTOM
    grid = "".join(
        f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="8" y2="{base}"/>'
        f'<text x="{x(value):.1f}" y="{base + 16}" text-anchor="middle">'
        f"{escape(tick(value))}</text>"
        for value in values
    )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return f'{grid}<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(label)}</text>'


def _svg(height: float, title: str, marks: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(marks)}</svg>"
    )
