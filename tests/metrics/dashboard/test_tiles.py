"""Tiles: each needs its own right and fails alone; layouts keep tiles of unknown kinds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backoffice import access
from backoffice.models import Staff
from events import store
from metrics.dashboard import layouts, tiles, widgets
from metrics.dashboard.asked import Span
from metrics.dashboard.layouts import Layout, Tile
from tests.backoffice import api_client
from tests.metrics.dashboard import samples

pytestmark = pytest.mark.django_db

EVERY_KIND = [*widgets.WIDGETS]


def tile(kind: str, *, h: int = 1, **options: Any) -> Tile:
    return Tile(id=kind.replace("_", "-"), kind=kind, w=2, h=h, options=options)


def replaced(monkeypatch: pytest.MonkeyPatch, kind: str, load: Callable[[Any], dict[str, Any]]) -> None:
    monkeypatch.setitem(widgets.WIDGETS, kind, dataclasses.replace(widgets.WIDGETS[kind], load=load))


def page_of(person: Staff, **parameters: str) -> Any:
    client = Client()
    client.force_login(person)
    return client.get(reverse("admin:index"), parameters)


def arranged(person: Staff, *found: Tile) -> None:
    layouts.save(person, Layout(tiles=list(found)), None)


@pytest.mark.parametrize("role", api_client.ROLES)
def test_default_layout_is_shown_without_forbidden_tiles(role: str) -> None:
    person = api_client.staff(role)
    answer = page_of(person)
    assert answer.status_code == 200
    filled = answer.context["tiles"]
    assert [one.tile for one in filled] == layouts.default(person).tiles
    assert {one.state for one in filled} == {"fresh"}


@pytest.mark.parametrize("role", api_client.ROLES)
def test_every_widget_is_filled_for_roles_with_its_right_only(role: str) -> None:
    person = api_client.staff(role)
    samples.store(lambda statement, *parameters: store.query(statement, parameters), 30)
    for kind in EVERY_KIND:
        for height in (1, 2, 3):
            found = tiles.fill(tile(kind, h=height), person, Span())
            right = widgets.WIDGETS[kind].right_of({})
            permitted = right is None or access.may(person, *right)
            assert found.state == ("fresh" if permitted else "forbidden"), (kind, role)
            assert bool(found.content) == permitted


def test_forbidden_widget_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_asked: Any) -> dict[str, Any]:
        raise AssertionError("loaded")

    replaced(monkeypatch, "cpu", load)
    person = api_client.staff("agent")
    arranged(person, tile("cpu"), tile("health"))
    answer = page_of(person)
    assert [one.state for one in answer.context["tiles"]] == ["forbidden", "fresh"]
    assert "Your role may not see this widget." in answer.content.decode()


def test_any_metric_needs_the_right_of_its_metric() -> None:
    agent = api_client.staff("agent")
    seen = tiles.fill(tile("metric", metric="staff.online"), agent, Span())
    hidden = tiles.fill(tile("metric", metric="cpu.percent"), agent, Span())
    assert [seen.state, hidden.state] == ["fresh", "forbidden"]
    assert hidden.content == {}


def test_broken_widget_leaves_the_others_and_the_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_asked: Any) -> dict[str, Any]:
        return {"rows": store.query("select no_such_column from users")}

    replaced(monkeypatch, "log", load)
    person = api_client.staff("admin")
    arranged(person, tile("health"), tile("log"), tile("subscriptions"), tile("figures"))
    answer = page_of(person)
    assert [one.state for one in answer.context["tiles"]] == ["fresh", "failed", "fresh", "fresh"]
    assert "This widget failed and is loaded again." in answer.content.decode()


def test_slow_widget_is_cut_off_and_shows_its_last_good_content(monkeypatch: pytest.MonkeyPatch) -> None:
    person, count = api_client.staff("admin"), iter((1, 2))
    slow = iter((False, True))

    def load(_asked: Any) -> dict[str, Any]:
        if next(slow):
            store.query("select pg_sleep(30)::text")
        return {"unpurged": next(count), "recent": 7, "since": None, "last": None}

    replaced(monkeypatch, "erasures", load)
    first = tiles.fill(tile("erasures"), person, Span())
    second = tiles.fill(tile("erasures"), person, Span())
    assert [first.state, second.state] == ["fresh", "stale"]
    assert second.content == first.content
    assert second.at == first.at
    assert "as of" in page_of_stale(person, monkeypatch)


def page_of_stale(person: Staff, monkeypatch: pytest.MonkeyPatch) -> str:
    def load(_asked: Any) -> dict[str, Any]:
        raise RuntimeError("broken")

    replaced(monkeypatch, "erasures", load)
    arranged(person, tile("erasures"))
    text: str = page_of(person).content.decode()
    return text


def test_last_good_content_is_not_shown_to_another_role(monkeypatch: pytest.MonkeyPatch) -> None:
    admin, manager = api_client.staff("admin"), api_client.staff("manager")
    assert tiles.fill(tile("log"), admin, Span()).state == "fresh"

    def load(_asked: Any) -> dict[str, Any]:
        raise RuntimeError("broken")

    replaced(monkeypatch, "log", load)
    assert tiles.fill(tile("log"), admin, Span()).state == "stale"
    assert tiles.fill(tile("log"), manager, Span()).state == "failed"


def test_tiles_after_the_time_of_the_page_are_left_to_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "PAGE_SECONDS", -1.0)
    person = api_client.staff("manager")
    answer = page_of(person)
    assert {one.state for one in answer.context["tiles"]} == {"pending"}
    monkeypatch.setattr(tiles, "PAGE_SECONDS", 60.0)
    client = Client()
    client.force_login(person)
    fragment = client.get(reverse("admin:dashboard_tiles"), {"ids": "health,log,nothing"})
    assert [one.tile.kind for one in fragment.context["tiles"]] == ["health"]
    assert fragment.context["tiles"][0].state == "fresh"


def test_unknown_kind_is_kept_and_shown_as_not_available() -> None:
    person = api_client.staff("viewer")
    arranged(person, Tile(id="a", kind="weather", w=3, h=2, options={"city": "Lyon"}))
    answer = page_of(person)
    assert "no widget “weather”" in answer.content.decode()
    assert layouts.of(person).layout.tiles[0].options == {"city": "Lyon"}


def test_unknown_metric_is_shown_as_not_available() -> None:
    person = api_client.staff("admin")
    arranged(person, tile("metric", metric="moon.phase"))
    assert "no metric “moon.phase”" in page_of(person).content.decode()


def test_default_layout_follows_the_role() -> None:
    person = api_client.staff("viewer")
    before = [one.kind for one in layouts.of(person).layout.tiles]
    person.role = "manager"
    person.save()
    after = [one.kind for one in layouts.of(Staff.objects.get(pk=person.pk)).layout.tiles]
    assert "cpu" in after
    assert "cpu" not in before


def test_note_is_text_and_not_markup() -> None:
    person = api_client.staff("agent")
    arranged(person, tile("note", text="<img src=x onerror=alert(1)>\n\nsecond"))
    text = page_of(person).content.decode()
    assert "&lt;img src=x" in text
    assert "<img src=x" not in text


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"range": "15m"}, 200),
        ({"range": "1y"}, 200),
        ({"from": "2026-03-01", "to": "2026-03-02"}, 200),
        ({"from": "2026-03-01"}, 200),
        ({"range": "x"}, 400),
        ({"from": "2026-03-02", "to": "2026-03-01"}, 400),
        ({"to": "2026-03-01"}, 400),
    ],
)
def test_range_comes_from_the_address(parameters: dict[str, str], status: int) -> None:
    answer = page_of(api_client.staff("admin"), **parameters)
    assert answer.status_code == status
    if status == 200:
        assert answer.context["span"].live == ("from" not in parameters)


def test_chart_has_a_gap_a_table_and_a_summary() -> None:
    newest = samples.store(lambda statement, *parameters: store.query(statement, parameters), 60, gap=range(10, 20))
    person = api_client.staff("admin")
    found = tiles.fill(tile("cpu", h=2), person, Span("15m"))
    chart = found.content["chart"]
    assert [value is None for value in chart.series[0].values[-60:]].count(True) == 10
    assert len(found.content["rows"]) <= 30
    assert found.content["live"]["slot"] == newest
    assert found.content["live"]["points"][-1][0] // 5 == newest
    text = chart.svg
    assert "<title" in text
    assert "style=" not in text


def test_table_of_a_long_chart_has_at_most_thirty_rows_and_keeps_peaks() -> None:
    samples.store(lambda statement, *parameters: store.query(statement, parameters), 180)
    found = tiles.fill(tile("metric", h=2, metric="queue.depth"), api_client.staff("admin"), Span("15m"))
    rows = found.content["rows"]
    assert len(rows) == 30
    assert "14" in {row.high for row in rows}
    assert rows[0].at > rows[-1].at


def test_missing_values_are_dashes_and_old_samples_are_marked() -> None:
    samples.store(lambda statement, *parameters: store.query(statement, parameters), 5, until=20)
    person = api_client.staff("admin")
    arranged(person, tile("cpu"), tile("log"))
    answer = page_of(person)
    found = answer.context["tiles"][0]
    assert found.content["fresh"].state == "silent"
    assert found.content["numbers"][1].text == "–"
    assert "no values for" in answer.content.decode()
