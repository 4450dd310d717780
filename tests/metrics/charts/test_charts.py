"""Charts drawn by the server: scales, gaps, stacks, texts, and nothing that the content security policy forbids."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from metrics.charts import scales, svg
from metrics.charts.model import Chart, Series

FIRST = date(2026, 11, 1)


def chart(*series: Series, **more: object) -> Chart:
    days = [FIRST + timedelta(days=number) for number in range(len(series[0].values))]
    fields = {"id": "c", "title": "Submissions", "kind": "line", "moments": days, "series": series, **more}
    return Chart(**fields)  # type: ignore[arg-type]


def drawn(one: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(str(one.svg))


def paths(one: Chart) -> list[str]:
    return [path.get("d", "") for path in drawn(one).iter("path") if "series-line" in path.get("class", "")]


# -- scales -----------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1e12, allow_subnormal=False), st.sampled_from(["count", "seconds", "share"]))
def test_ticks_cover_the_highest_value_in_few_round_steps(highest: float, unit: scales.Unit) -> None:
    found = scales.ticks(highest, unit)
    assert found[0] == 0
    assert found[-1] >= highest * (1 - 1e-6)
    assert 2 <= len(found) <= scales.MAX_STEPS + 2


@pytest.mark.parametrize(
    ("highest", "unit", "expected"),
    [
        (0, "count", [0, 1]),
        (3, "count", [0, 1, 2, 3]),
        (37, "count", [0, 10, 20, 30, 40]),
        (200, "seconds", [0, 60, 120, 180, 240]),
        (0.9, "share", [0, 0.5, 1.0]),
    ],
)
def test_ticks_are_values_that_people_read_as_round(highest: float, unit: scales.Unit, expected: list[float]) -> None:
    assert scales.ticks(highest, unit) == expected


@given(st.integers(1, 400))
def test_few_moments_have_a_label_and_the_last_one_has(count: int) -> None:
    places = list(scales.label_places(count))
    assert places[-1] == count - 1
    assert len({later - earlier for earlier, later in itertools.pairwise(places)}) <= 1
    assert 1 <= len(places) <= scales.MAX_LABELS


# -- drawing ----------------------------------------------------------------------------------------------------------


def test_gap_interrupts_a_line_and_a_lone_value_is_a_dot() -> None:
    (path,) = paths(chart(Series("Time", "time", [10, 20, None, 30, None, None, 5, 6])))
    runs = path.split(" M")
    assert len(runs) == 3
    assert runs[1].endswith("h0"), "one value between two gaps"


def test_missing_value_is_not_drawn_as_zero() -> None:
    (path,) = paths(chart(Series("Time", "time", [None, None])))
    assert path == ""
    assert chart(Series("Time", "time", [None, None])).summary == "Time: no data."


def test_stacked_bars_stand_on_each_other() -> None:
    one = chart(Series("Free", "free", [3]), Series("Premium", "premium", [1], 1), kind="bar")
    lower, upper = (rect for rect in drawn(one).iter("rect") if "series-bar" in rect.get("class", ""))
    assert float(upper.get("y", "")) + float(upper.get("height", "")) == pytest.approx(float(lower.get("y", "")))
    assert upper.get("fill") == "url(#c-pattern-1)", "told apart by a pattern too"
    assert [rect.find("title").text for rect in (lower, upper)] == ["Nov. 1, 2026: 3", "Nov. 1, 2026: 1"]  # type: ignore[union-attr]


def test_band_is_closed_between_low_and_high() -> None:
    one = chart(Series("CPU", "cpu", [5, 6, None], low=[1, 2, None], high=[8, 9, None]), kind="band")
    (area,) = (path.get("d", "") for path in drawn(one).iter("path") if "series-band" in path.get("class", ""))
    assert area.endswith("Z")
    assert area.count("L") == 3
    assert one.data["high"] == [[8, 9, None]]


def test_picture_has_a_title_and_says_what_it_shows() -> None:
    root = drawn(chart(Series("Submissions", "submissions", [1, 41, 0])))[1]
    assert root.get("role") == "img"
    by_id = {element.get("id"): element.text for element in root if element.get("id")}
    assert [by_id[name] for name in str(root.get("aria-labelledby")).split()] == [
        "Submissions",
        "Submissions: 42 in total, at most 41 (Nov. 2, 2026).",
    ]


def test_picture_has_no_inline_style_and_no_script() -> None:
    hostile = Series("</title><script>alert(1)</script>", "x", [1, 2])
    text = str(chart(hostile, Series("b", "b", [2, 1]), kind="bar", title='"><b>').svg)
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|<b>", text)
    ElementTree.fromstring(text)


def test_numbers_of_coordinates_keep_their_decimal_point_in_french() -> None:
    with translation.override("fr"):
        text = str(chart(Series("Envois", "submissions", [1, 2, 4]), kind="bar").svg)
    assert not re.search(r'\s(?:x|y|width|height|x1|x2)="[^"]*,', text)


def test_points_are_placed_by_time_and_bars_in_columns() -> None:
    moments = [datetime(2026, 11, 1, hour, tzinfo=UTC) for hour in (0, 1, 4)]
    one = chart(Series("CPU", "cpu", [1, 1, 1]), moments=moments, step="time")
    assert paths(one) == [f"M0.0 {_y(1, 1)}L250.0 {_y(1, 1)}L1000.0 {_y(1, 1)}"]
    bars = list(drawn(chart(Series("S", "s", [1, 1]), kind="bar")).iter("rect"))
    assert [float(rect.get("x", "").rstrip("%")) for rect in bars] == [7.0, 57.0]


def _y(value: float, top: float) -> str:
    return f"{svg.PLOT - value / top * svg.PLOT:.1f}"


# -- the same data as text --------------------------------------------------------------------------------------------


def test_table_lists_every_moment_with_the_newest_first() -> None:
    rows = chart(Series("Time", "time", [61, None]), unit="seconds", sums=False).rows
    assert rows == [("Nov. 2, 2026", ["–"]), ("Nov. 1, 2026", ["1 min 01 s"])]


def test_data_for_scripts_has_instants_and_unformatted_values() -> None:
    data = chart(Series("Share", "share", [0.5, None], 2), unit="share").data
    assert data["moments"] == [1793491200, 1793577600]
    assert data["values"] == [[0.5, None]]
    assert data["series"] == [{"label": "Share", "colour": 2}]
