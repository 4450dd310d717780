"""Sections whose declarations contradict each other prevent the start with an error that names them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse

from backoffice import listing, models, section
from backoffice.section import Column, Extension, IndexPage, Panel, Section
from metrics.dashboard import pages

TABLES = ("_sections", "_kinds", "_rights", "_redactions", "_extensions")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of its own for each test, with the sections of the settings."""
    for name in TABLES:
        monkeypatch.setattr(section, name, {})
    section.load()


def index(_site: AdminSite, _request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def test_the_index_is_the_page_that_a_section_declares() -> None:
    declared = section.index()
    assert declared is not None
    assert declared.view is pages.index


def test_a_second_index_page_is_an_error_that_names_both_sections() -> None:
    section.add("a", Section(name="a", index=IndexPage(view=index)))
    with pytest.raises(ImproperlyConfigured, match="metrics, a"):
        section.load()


@pytest.mark.parametrize(
    "named",
    [
        {"columns": (Column(label="Email", value="email"),)},
        {"sorts": {"last_login": listing.Sort("last_login")}},
        {"panels": (Panel(template="x.html", context=lambda _row, _staff: {}, field="plan"),)},
    ],
)
def test_an_extension_may_not_use_a_name_of_its_kind(named: dict[str, Any]) -> None:
    section.add("a", Section(name="a", extends=(Extension(category="user", **named),)))
    with pytest.raises(ImproperlyConfigured, match="names in use"):
        section.load()


def test_two_extensions_may_not_use_the_same_name() -> None:
    for name in ("a", "b"):
        more = Extension(category="user", columns=(Column(label="Score", value="score"),))
        section.add(name, Section(name=name, extends=(more,)))
    with pytest.raises(ImproperlyConfigured, match="score"):
        section.load()


def test_a_column_that_is_no_api_field_is_an_error() -> None:
    column = listing.ForeignColumn(listing.Through(models.Form, "user_id"), "title")
    section.add("a", Section(name="a", extends=(Extension(category="user", api_columns={"score": column}),)))
    with pytest.raises(ImproperlyConfigured, match="score"):
        section.load()


def test_an_extension_of_no_kind_is_an_error() -> None:
    section.add("a", Section(name="a", extends=(Extension(category="nobody"),)))
    with pytest.raises(ImproperlyConfigured, match="nobody"):
        section.load()


def test_hidden_fields_are_those_of_the_kind_and_of_its_extensions() -> None:
    more = Extension(category="user", hidden={"viewer": frozenset({"score"})})
    section.add("a", Section(name="a", extends=(more,)))
    assert section.hidden("viewer", "user") == {"email", "score"}
    assert section.hidden("manager", "user") == frozenset()
    assert section.hidden("viewer", "system") == frozenset()


def test_without_metrics_users_have_no_counts(settings: Any) -> None:
    for name in TABLES:
        getattr(section, name).clear()
    settings.SECTIONS = [name for name in settings.SECTIONS if not name.startswith("metrics")]
    section.load()
    assert section.extensions("user") == ()
