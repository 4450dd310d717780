"""The page *Figures*, its downloads, and the panels on the pages of users and forms."""

from __future__ import annotations

import csv
import io
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backoffice import section
from backoffice.models import Form
from backoffice.sections.forms import domain as forms
from events import head
from metrics import catalogue
from metrics.counters import read
from metrics.figures import downloads
from metrics.materialized import refresh
from tests import factories
from tests.backoffice import api_client
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)
ROLES = ("admin", "manager", "agent", "viewer", "dpo")


@pytest.fixture(autouse=True)
def _own_database(own_database: None) -> None:
    """Every test here gets an empty log."""


@pytest.fixture
def form() -> uuid.UUID:
    """A form with 3 submissions today, of which 2 are timed, and one 40 days ago; everything is counted."""
    key = factories.form(factories.user(plan="premium"))
    for seconds in (10, 30, None):
        counting.receive(key, seconds=seconds)
    counting.receive(key, counting.ago(days=40), seconds=100)
    counting.follow()
    return key


def client(role: str = "manager") -> Client:
    found = Client()
    found.force_login(api_client.staff(role))
    return found


def page(role: str = "manager", **query: str) -> str:
    response = client(role).get(reverse("admin:figures"), query)
    assert response.status_code == 200, response
    return str(response.content.decode())


def number_of(html: str, name: str, part: str) -> str:
    """The number of this name in a part of the page."""
    start = html.index(f'data-part="{part}"')
    found = re.search(rf'data-number="{name}".*?figure-value">(.*?)</span>\s', html[start:], re.DOTALL)
    assert found, name
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def rows(role: str, name: str, **query: str) -> list[list[str]]:
    response = client(role).get(reverse("admin:figures_csv", args=[name]), query)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(response.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    return list(csv.reader(io.StringIO(text)))


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_page_is_open_to_every_role_that_sees_forms(role: str, form: uuid.UUID) -> None:
    html = page(role)
    assert number_of(html, "submissions", "totals") == "4"
    assert number_of(html, "in-range", "submissions") == "3"


def test_page_needs_the_right_to_view_forms(monkeypatch: pytest.MonkeyPatch, form: uuid.UUID) -> None:
    monkeypatch.setitem(section._rights, "form", {})
    assert client("agent").get(reverse("admin:figures")).status_code == 403
    assert client("agent").get(reverse("admin:figures_csv", args=["forms"])).status_code == 403
    assert client("agent").get(reverse("admin:figures_record", args=["form", form])).status_code == 403


def test_navigation_leads_to_the_page() -> None:
    assert f'href="{reverse("admin:figures")}"' in client("viewer").get(reverse("admin:index")).content.decode()


def test_every_number_says_as_of_when_it_is_right(form: uuid.UUID) -> None:
    html = page()
    numbers = re.findall(r"data-number=.*?</div>", html, re.DOTALL)
    assert len(numbers) >= 6
    assert all("as of " in number for number in numbers)


def test_range_is_that_of_the_api(form: uuid.UUID) -> None:
    assert number_of(page(range="90d"), "in-range", "submissions") == "4"
    today = datetime.now(UTC).date()
    days = {"from": str(today - timedelta(days=41)), "to": str(today - timedelta(days=1))}
    assert number_of(page(**days), "in-range", "submissions") == "1"
    assert rows("manager", "submissions", range="7d")[1][0] == str(today - timedelta(days=6))


@pytest.mark.parametrize("query", [{"range": "8w"}, {"range": "7d", "from": "2026-01-01"}, {"from": "2026-02-30"}])
def test_wrong_range_is_explained_and_left_out(query: dict[str, str]) -> None:
    response = client().get(reverse("admin:figures"), query, follow=True)
    assert response.redirect_chain == [(reverse("admin:figures"), 302)]
    assert "toast warning" in response.content.decode()
    assert client().get(reverse("admin:figures_csv", args=["forms"]), query).status_code == 400


def test_average_is_weighted_by_the_timed_submissions_of_each_day(form: uuid.UUID) -> None:
    assert number_of(page(), "average", "completion-time") == "20 s"
    assert number_of(page(range="90d"), "average", "completion-time") == "47 s"  # (10 + 30 + 100) / 3


def test_days_without_timed_submissions_are_gaps_and_not_zero(form: uuid.UUID) -> None:
    values = [row[1] for row in rows("manager", "completion-time")[1:]]
    assert values == [""] * 29 + ["20.0"]


def test_time_of_a_single_submission_is_not_shown_to_roles_that_do_not_see_answers(form: uuid.UUID) -> None:
    for _ in range(catalogue.FEWEST_TIMED):
        counting.receive(form, counting.ago(days=3), seconds=40)
    counting.follow()
    shown, hidden = (
        [row[1] for row in rows(role, "completion-time", range="90d")[1:] if row[1]] for role in ("manager", "viewer")
    )
    assert (shown, hidden) == (["100.0", "40.0", "20.0"], ["40.0"])
    assert number_of(page("viewer", range="90d"), "average", "completion-time") == "40 s"
    assert "Today and days with fewer than five timed submissions are left out." in page("viewer")


@pytest.mark.parametrize("day", ["0001-01-01", "1582-10-15", "1969-12-31", "9999-12-31"])
def test_first_and_last_day_of_the_calendar_are_shown(form: uuid.UUID, day: str) -> None:
    query = {"from": day, "to": day}
    assert number_of(page(**query), "in-range", "submissions") == "0"
    for name in ("forms", "submissions", "completion-time"):
        assert [row[0] for row in rows("manager", name, **query)[1:]] == [day]


def test_users_by_plan_and_active_share_are_those_of_the_view(form: uuid.UUID) -> None:
    factories.user(plan="free", last_login=timezone.now())
    counting.follow()
    assert "These figures are not computed yet." in page()
    refresh.refresh_all(force=True)
    month = str(datetime.now(UTC).date().replace(day=1))
    assert rows("manager", "users")[-1] == [month, "1", "1", "0"]
    assert len(rows("manager", "users")) == 13, "a header and twelve months"
    assert rows("manager", "active")[-1] == [month, "0.5"]
    html = page()
    assert (number_of(html, "free", "users"), number_of(html, "share", "active")) == ("1", "50%")


def test_page_says_that_parked_streams_are_not_counted(form: uuid.UUID) -> None:
    counting.park(counting.receive(form))
    assert "The events of 1 record are not counted" in page()


def test_fragment_includes_the_position_that_the_page_was_notified_of(form: uuid.UUID) -> None:
    assert number_of(page(), "submissions", "totals") == "4"  # and is cached for up to 30 s
    counting.receive(form)
    counting.follow()
    fragment = page(fragment="1", position=str(head.newest()))
    assert number_of(fragment, "submissions", "totals") == "5"
    assert number_of(fragment, "in-range", "submissions") == "4"
    assert "<html" not in fragment


@pytest.mark.parametrize("position", ["", "-1", "x", "9" * 18, "9" * 40])
def test_position_beyond_the_log_or_no_position_is_no_error(position: str, form: uuid.UUID) -> None:
    assert number_of(page(fragment="1", position=position), "submissions", "totals") == "4"


# -- downloads --------------------------------------------------------------------------------------------------------


def test_csv_has_a_row_for_every_day_and_names_that_do_not_depend_on_the_language(form: uuid.UUID) -> None:
    french = client()
    french.cookies.load({"django_language": "fr"})
    response = french.get(reverse("admin:figures_csv", args=["forms"]), {"range": "7d"})
    today = datetime.now(UTC).date()
    assert response["Content-Disposition"] == f'attachment; filename="forms-{today - timedelta(days=6)}-{today}.csv"'
    listed = list(csv.reader(io.StringIO(b"".join(response.streaming_content).decode("utf-8-sig"))))  # type: ignore[attr-defined]
    assert listed[0] == ["date", "forms_created", "unique_users"]
    assert len(listed) == 8
    assert listed[-1] == [str(today), "1", "1"]


def test_csv_of_a_year_comes_in_pieces(form: uuid.UUID) -> None:
    response = client().get(reverse("admin:figures_csv", args=["submissions"]), {"range": "1y"})
    assert len(list(response.streaming_content)) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_text_that_a_spreadsheet_takes_for_a_formula_is_quoted(text: str) -> None:
    assert downloads.cell(text) == f"'{text}"


def test_numbers_of_a_download_are_not_quoted() -> None:
    assert [downloads.cell(value) for value in (-1, 0.5, None, "free")] == [-1, 0.5, "", "free"]


def test_unknown_chart_returns_404() -> None:
    assert client().get(reverse("admin:figures_csv", args=["nothing"])).status_code == 404


# -- panels -----------------------------------------------------------------------------------------------------------


def panel(category: str, key: Any, role: str = "manager") -> str:
    response = client(role).get(reverse(f"admin:backoffice_{category}_change", args=[key]))
    html = str(response.content.decode())
    return html[html.index("data-figures=") :]


def test_page_of_a_form_shows_its_figures(form: uuid.UUID) -> None:
    html = panel("form", form)
    shown = {name: number_of(html, name, "numbers") for name in ("submissions", "recent", "last")}
    assert shown == {"submissions": "4", "recent": "3", "last": "just now"}
    assert f'data-topic="form:{form}"' in html
    assert "Submissions per day, the last 90 days" in html
    assert "Submissions: 4 in total" in html


def test_page_of_a_user_shows_the_figures_of_their_living_forms(form: uuid.UUID) -> None:
    owner = Form.objects.get(pk=form).user_id
    other = factories.form(owner)
    counting.receive(other)
    counting.follow()
    html = panel("user", owner)
    assert [number_of(html, name, "numbers") for name in ("forms", "submissions", "recent")] == ["2", "5", "4"]
    counting.send(forms.DeleteForm(), other)
    counting.follow()
    html = panel("user", owner)
    assert [number_of(html, name, "numbers") for name in ("forms", "submissions", "recent")] == ["1", "4", "3"]


@pytest.mark.parametrize("role", ROLES)
def test_role_that_sees_submissions_sees_the_last_one_and_those_of_each_day(role: str, form: uuid.UUID) -> None:
    fragment = client(role).get(reverse("admin:figures_record", args=["form", form])).content.decode()
    for html in (panel("form", form, role), fragment):
        assert "just now" in number_of(html, "last", "numbers")
        assert "Submissions per day, the last 90 days" in html
    assert len(re.findall(r'<th scope="row">', fragment)) == 90


def test_form_counts_recent_submissions_from_the_same_hour_as_its_owner(form: uuid.UUID) -> None:
    window = read.window()
    assert window
    counting.receive(form, window.recent_from)
    counting.receive(form, window.recent_from - timedelta(seconds=1))
    counting.follow()
    assert read.form_recent(form) == 4
    assert number_of(panel("form", form), "recent", "numbers") == "4"


def test_figures_of_another_category_are_not_found(form: uuid.UUID) -> None:
    assert client().get(reverse("admin:figures_record", args=["submission", form])).status_code == 404
