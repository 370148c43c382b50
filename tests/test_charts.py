"""Self-contained charts: marks and their places."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from slateflow.charts import RIGHT, Histogram, Night, ValueInterval, histograms, intervals, trend

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str, tag: str) -> list[dict[str, str]]:
    """The attributes of all elements of a kind."""
    return [one.attrib for one in ElementTree.fromstring(svg).iter(SVG + tag)]


def texts(svg: str) -> list[str | None]:
    return [one.text for one in ElementTree.fromstring(svg).iter(SVG + "text")]


def test_a_trend_has_values_champions_moves_and_failures():
    nights = [
        Night("11-01", (10.0, 9.0, 11.0), highlighted=True, note="v1"),
        Night("11-02", failed=True),
        Night("11-03", (12.0, 11.0, 13.0), reigning=10.5),
        Night("11-04", reigning=11.0, value=(11.0, 10.0, 12.0)),
    ]
    svg = trend(nights, "nights")
    assert {"11-01", "11-02", "11-03", "11-04", "v1", "failed"} <= set(texts(svg))
    large = [dot for dot in drawn(svg, "circle") if dot["r"] == "4.0"]
    dots = [(float(dot["cx"]), float(dot["cy"])) for dot in large]
    values, legend = dots[:3], dots[3:]
    assert values[1][1] < values[2][1] < values[0][1]  # 12 above 11 above 10
    assert len(legend) == 4
    crosses = [line for line in drawn(svg, "line") if line.get("stroke") == "#dc4c4c"]
    assert len(crosses) == 2
    assert values[0][0] < (float(crosses[0]["x1"]) + float(crosses[0]["x2"])) / 2 < values[1][0]
    (champions,) = drawn(svg, "polyline")
    (third, upper), (fourth, lower) = (
        (float(x), float(y)) for x, y in (p.split(",") for p in champions["points"].split())
    )
    assert [third, fourth] == pytest.approx([values[1][0], values[2][0]])
    assert lower < upper  # 11 is above 10.5
    assert values[2][1] == pytest.approx(lower, abs=0.1)  # 11, both


@pytest.mark.parametrize("night", [Night("11-01", failed=True), Night("11-01", note="back to v1")])
def test_a_trend_of_nights_without_values_is_drawn(night):
    assert "11-01" in texts(trend([night], "nights"))


def test_intervals_stay_in_the_picture():
    rows = [ValueInterval("linucb", 1.0, -5.0, 7.0), ValueInterval("lints", 1.1, -4.0, 6.0)]
    svg = intervals(rows, {"random": 1.0}, "", "over random")
    ((_, _, width, _),) = (map(float, one["viewBox"].split()) for one in drawn(svg, "svg"))
    first, second = (
        (float(line["x1"]), float(line["x2"]))
        for line in drawn(svg, "line")
        if "stroke-dasharray" not in line
    )
    assert 0 < first[0] < second[0] < second[1] < first[1] < width  # -5, -4, 6, 7
    assert first[1] - first[0] == pytest.approx(1.2 * (second[1] - second[0]), abs=0.5)  # 12 to 10


def test_notes_stand_behind_the_rows():
    rows = [
        ValueInterval("linucb", 1.0, 0.5, 1.5, note="+1.00"),
        ValueInterval("random", 0.0, -0.5, 0.5),
    ]
    svg = intervals(rows, {"random": 0.0}, "", "over random")
    assert {"over random", "+1.00"} <= set(texts(svg))
    wide, narrow = (drawn(intervals(rows, {}, "", notes), "svg") for notes in ("notes", ""))
    assert int(wide[0]["width"]) > int(narrow[0]["width"])


def test_lines_across_have_the_digits_that_are_asked_for():
    rows = [ValueInterval("linucb", 0.39, 0.35, 0.43)]
    assert "random 0.0854" in texts(intervals(rows, {"random": 0.0854}, "", decimals=4))


def test_the_last_tick_of_powers_is_not_cut_off():
    row = Histogram("linucb", np.array([-2.0, 4.0]), np.array([3]))
    svg = histograms([row], "", "weight", powers=True, alone=True)
    (width,) = (float(one["width"]) for one in drawn(svg, "svg"))
    (last,) = (text for text in drawn(svg, "text") if text["x"] == f"{width - RIGHT:.1f}")
    assert float(last["x"]) + len("10,000") * 0.6 * 12 / 2 < width  # 12 px, digits of 0.6


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.1)."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_picture_of_its_own_is_legible_on_light_and_dark_pages():
    row = Histogram("cql", np.array([-2.0, 4.0]), np.array([3]))
    svg = histograms([row], "", "weight", powers=True, alone=True)
    (colour,) = re.findall(r"text\{fill:(#\w{6})\}", svg)
    for page in ("#ffffff", "#1d1d20"):
        dark, light = sorted((luminance(page), luminance(colour)))
        assert (light + 0.05) / (dark + 0.05) > 3  # WCAG 2.1, 1.4.11
