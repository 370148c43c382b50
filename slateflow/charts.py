"""Every chart of pages and reports, as SVG text.

Not matplotlib: three histograms take it 1.1 s, most of it the import, and 66 kB; here they take
0.01 s and 27 kB. Colours are CSS variables, so that a page can be light or dark, bars carry
tooltips, and a report in Prefect holds its chart in a link.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

WIDTH, LEFT, RIGHT, BOTTOM = 720, 64, 24, 44
SERIES = 6
"""Number of colours that a page defines, from `--series-0` on; further series reuse them."""

_GREY, _BLUE, _GREEN, _RED = "#8a94a3", "#3b82f6", "#2e9e5b", "#dc4c4c"
"""Colours of self-contained pictures, legible on light and on dark pages."""

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
class Curve:
    """Values over x, and the straight line through them."""

    x: NDArray[np.integer[Any]]  # (T,)
    y: Floats  # (T,)
    slope: float
    intercept: float

    @property
    def slope_text(self) -> str:
        """The slope in a readable form.

        Example:
            >>> Curve(np.arange(2), np.zeros(2), -0.0029361, 0).slope_text
            '−0.0029 a step'
        """
        return f"{self.slope:+.2g} a step".replace("-", "−")


@dataclass(frozen=True)
class ValueInterval:
    """A value and its 95% interval, followed by a note."""

    name: str
    value: float
    low: float
    high: float
    highlighted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Night:
    """A night of a trend: a value with its interval, or none where it failed."""

    label: str  # a word on each line
    value: tuple[float, float, float] | None = None  # with the ends of its interval
    reigning: float | None = None  # the champion's
    highlighted: bool = False
    note: str = ""  # such as the version that became champion
    failed: bool = False


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


def series_colour(number: int) -> str:
    """The colour of a series, as a CSS variable of the page."""
    return f"var(--series-{number % SERIES})"


def histograms(
    rows: Sequence[Histogram], title: str, label: str, powers: bool = False, alone: bool = False
) -> str:
    """Histograms below each other on one axis, each as high as its own largest bin.

    With `powers` the edges are exponents of ten. `alone` is for pages without our style.
    """
    tick: Callable[[float], str] = (
        (lambda at: f"{float(f'{10**at:.3g}'):,g}") if powers else "{:g}".format
    )
    low = min(float(row.edges[0]) for row in rows)
    high = max(float(row.edges[-1]) for row in rows)
    band, left, right = 62, 132, WIDTH - RIGHT
    x = _scale(low, high, left, right)
    svg = (_standing_alone if alone else _picture)(title, WIDTH, band * len(rows) + BOTTOM)
    if alone:
        _add(svg, "style", _STYLE)
    values = [value for value in ticks(low, high) if not powers or value == round(value)]
    _x_axis(svg, x, values, band * len(rows), label, tick)
    for number, row in enumerate(rows):
        base, colour = band * (number + 1), series_colour(number)
        heights = row.counts / max(1, row.counts.max()) * (band - 16)
        for bar in np.flatnonzero(row.counts):
            start, end, tall = float(row.edges[bar]), float(row.edges[bar + 1]), heights[bar]
            wide = max(x(end) - x(start) - 0.5, 1.5)
            place = {"x": x(start), "y": base - tall, "width": wide, "height": tall}
            rect = _add(svg, "rect", **place, fill=colour)
            _add(rect, "title", f"{tick(start)} to {tick(end)}: {row.counts[bar]:,}")
        if row.mark is not None:
            _line(svg, (x(row.mark), base - band + 10), (x(row.mark), base), class_="mark")
        _line(svg, (left, base), (right, base), class_="axis")
        _text(svg, row.name, (left - 10, base - 22), "end", class_="name")
        _text(svg, row.note, (left - 10, base - 6), "end")
    return tostring(svg, encoding="unicode")


def lines(curves: Mapping[str, Curve], title: str, label: str) -> str:
    """Values over the step, faint, and their trends, strong."""
    low_x = min(float(curve.x[0]) for curve in curves.values())
    high_x = max(float(curve.x[-1]) for curve in curves.values())
    trends = [curve.intercept + curve.slope * curve.x[[0, -1]] for curve in curves.values()]
    ends = np.concatenate([*(curve.y for curve in curves.values()), *trends])
    low_y, high_y = float(ends.min()), float(ends.max())
    margin = 0.05 * (high_y - low_y) or max(abs(high_y), 1.0) * 0.05
    height = 300
    x = _scale(low_x, max(high_x, low_x + 1), LEFT, WIDTH - RIGHT)
    y = _scale(low_y - margin, high_y + margin, height - BOTTOM, 12)
    svg = _picture(title, WIDTH, height)
    _x_axis(svg, x, ticks(low_x, high_x), height - BOTTOM, label)
    for value in ticks(low_y - margin, high_y + margin, 6):
        _line(svg, (LEFT, y(value)), (WIDTH - RIGHT, y(value)), class_="grid")
        _text(svg, f"{value:g}", (LEFT - 8, y(value) + 4), "end")
    for number, curve in enumerate(curves.values()):
        points = zip(curve.x, curve.y, strict=True)
        path = " ".join(f"{x(float(a)):.1f},{y(float(b)):.1f}" for a, b in points)
        style = {"fill": "none", "stroke": series_colour(number), "opacity": "0.4"}
        _add(svg, "polyline", points=path, **style, stroke_width="1")
    for number, (name, curve) in enumerate(curves.items()):
        start, end = (
            (x(float(at)), y(float(trend)))
            for at, trend in zip(curve.x[[0, -1]], trends[number], strict=True)
        )
        style = {"stroke": series_colour(number), "stroke_width": "2.5", "stroke_linecap": "round"}
        _add(_line(svg, start, end, **style), "title", f"{name}: {curve.slope_text}")
    return tostring(svg, encoding="unicode")


def intervals(
    rows: Sequence[ValueInterval],
    marks: dict[str, float],
    title: str,
    notes: str = "",
    decimals: int = 2,
) -> str:
    """Values as dots with their intervals, one below the other, and named lines across.

    The picture is self-contained, with its own colours, for pages without our style.

    Args:
        rows: The values.
        marks: Lines across, by name.
        title: Text for readers who cannot see the picture.
        notes: Heading of the rows' notes; empty where they have none.
        decimals: Decimals of the lines' values.
    """
    left, right, row_height, top = 110, 20, 26, 24 if notes else 0
    width = 640 + (150 if notes else 0)
    right += 150 if notes else 0
    values = [bound for row in rows for bound in (row.value, row.low, row.high)]
    values += marks.values()
    margin = 0.06 * (max(values) - min(values)) or 1.0
    x = _scale(min(values) - margin, max(values) + margin, left, width - right)
    height = top + row_height * len(rows) + 34
    svg = _standing_alone(title, width, height)
    if notes:
        _text(svg, notes, (width - 8, 14), "end", fill=_GREY)
    for (name, value), colour in zip(marks.items(), cycle((_GREY, _GREEN)), strict=False):
        dashed = {"stroke": colour, "stroke_dasharray": "4 3"}
        _line(svg, (x(value), top + 4), (x(value), height - 26), **dashed)
        _text(svg, f"{name} {value:.{decimals}f}", (x(value), height - 8), "middle", fill=colour)
    for index, row in enumerate(rows):
        y = top + 16 + row_height * index
        colour = _BLUE if row.highlighted else _GREY
        _text(svg, row.name, (left - 10, y + 4), "end", fill=colour)
        _line(svg, (x(row.low), y), (x(row.high), y), stroke=colour, stroke_width="2")
        _add(svg, "circle", cx=x(row.value), cy=y, r=4, fill=colour)
        _text(svg, row.note, (width - 8, y + 4), "end", fill=colour)
    return tostring(svg, encoding="unicode")


def trend(nights: Sequence[Night], title: str) -> str:
    """Nights side by side, the oldest first: the best candidate, the champion, failures.

    The picture is self-contained, like that of `intervals`.
    """
    width, height, left, top, bottom = 790, 260, 70, 30, 58
    base = height - bottom
    bounds = [bound for night in nights if night.value for bound in night.value]
    bounds += [night.reigning for night in nights if night.reigning is not None]
    low, high = (min(bounds), max(bounds)) if bounds else (0.0, 1.0)
    margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.05
    x = _scale(-0.5, max(len(nights) - 0.5, 0.5), left, width - 16)
    y = _scale(low - margin, high + margin, base - 16, top)
    svg = _standing_alone(title, width, height)
    for value in ticks(low - margin, high + margin, 5):
        _line(svg, (left, y(value)), (width - 16, y(value)), stroke=_GREY, stroke_opacity="0.25")
        _text(svg, f"{value:g}", (left - 8, y(value) + 4), "end", fill=_GREY)
    champions = [(at, night.reigning) for at, night in enumerate(nights)]
    reigns = [(x(at), y(value)) for at, value in champions if value is not None]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in reigns)
    _add(svg, "polyline", points=points, fill="none", stroke=_GREEN, stroke_width="2")
    for place in reigns:
        _add(svg, "circle", cx=place[0], cy=place[1], r=2.5, fill=_GREEN)
    every = math.ceil(len(nights) / 12)
    for at, night in enumerate(nights):
        _night(svg, night, x(at), y, top, base)
        if (len(nights) - 1 - at) % every == 0:
            for line, text in enumerate(night.label.split()):
                _text(svg, text, (x(at), base + 16 + 13 * line), "middle", fill=_GREY)
    legend = {
        "best candidate": _GREY,
        "promoted": _BLUE,
        "champion": _GREEN,
        "failed": _RED,
    }
    for number, (name, colour) in enumerate(legend.items()):
        _add(svg, "circle", cx=left + 6 + 140 * number, cy=height - 14, r=4, fill=colour)
        _text(svg, name, (left + 16 + 140 * number, height - 10), "start", fill=colour)
    return tostring(svg, encoding="unicode")


def _night(
    svg: Element, night: Night, x: float, y: Callable[[float], float], top: float, base: float
) -> None:
    """One night of a trend."""
    if night.failed:
        for way in (-1, 1):
            start, end = (x - 4, base - 6 - 4 * way), (x + 4, base - 6 + 4 * way)
            _line(svg, start, end, stroke=_RED, stroke_width="2")
    colour = _BLUE if night.highlighted else _GREY
    if night.value is not None:
        value, low, high = night.value
        _line(svg, (x, y(low)), (x, y(high)), stroke=colour, stroke_width="2")
        _add(svg, "circle", cx=x, cy=y(value), r=4, fill=colour)
    if night.note:
        dashed = {"stroke": colour, "stroke_dasharray": "2 4"}
        _line(svg, (x, top), (x, base), **dashed)
        _text(svg, night.note, (x, top - 8), "middle", fill=colour)


def data_uri(svg: str) -> str:
    """A data URI that contains the picture."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * (value - low) / ((high - low) or 1.0)


def _x_axis(
    svg: Element,
    x: Callable[[float], float],
    values: Sequence[float],
    base: int,
    label: str,
    tick: Callable[[float], str] = "{:g}".format,
) -> None:
    for value in values:
        _line(svg, (x(value), 8), (x(value), base), class_="grid")
        _text(svg, tick(value), (x(value), base + 16), "middle")
    _text(svg, label, ((LEFT + WIDTH - RIGHT) / 2, base + BOTTOM - 8), "middle")


_STYLE = (
    "svg{--series-0:#4269d0;--series-1:#e07b00;--series-2:#2a9d5c;--series-3:#b3399b;"
    "--series-4:#8a6d3b;--series-5:#6b7280}"
    f"line{{stroke:{_GREY}}}.grid{{opacity:0.3}}.mark{{stroke-dasharray:3 2}}"
    f".name{{font-weight:bold}}text{{fill:{_GREY}}}"
)
"""Style of a self-contained picture, legible on light pages and on dark ones."""


def _picture(title: str, width: int, height: int) -> Element:
    box = f"0 0 {width} {height}"
    return Element("svg", {"viewBox": box, "role": "img", "aria-label": title})


def _standing_alone(title: str, width: int, height: int) -> Element:
    """A picture for pages without our style."""
    svg = _picture(title, width, height)
    size = {"width": str(width), "height": str(height)}
    svg.attrib |= {"xmlns": "http://www.w3.org/2000/svg", **size}
    svg.attrib |= {"font-family": "sans-serif", "font-size": "12"}
    return svg


def _line(
    svg: Element, start: tuple[float, float], end: tuple[float, float], **style: str
) -> Element:
    return _add(svg, "line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], **style)


def _text(svg: Element, text: str, at: tuple[float, float], anchor: str, **style: str) -> None:
    _add(svg, "text", text, x=at[0], y=at[1], text_anchor=anchor, **style)


def _add(parent: Element, tag: str, text: str | None = None, **attributes: float | str) -> Element:
    """Add an element; numbers have a decimal, and underscores in a name are dashes."""
    written = {
        name.strip("_").replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}"
        for name, value in attributes.items()
    }
    child = SubElement(parent, tag, written)
    child.text = text
    return child
