"""Search in lists: which words find which rows, and by which index."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from django.db import connection

from backoffice import listing, models
from backoffice.listing import reading
from tests.backoffice import list_rows
from tests.backoffice.list_rows import walk, walk_back

pytestmark = pytest.mark.django_db


def last_names(search: str, **question: Any) -> set[str]:
    found = walk("users", search=search, **question)
    return set(models.User.objects.filter(pk__in=found).values_list("last_name", flat=True))


def make(*names: str) -> None:
    models.User.objects.bulk_create(
        list_rows.user(n, last_name=name, first_name="", email=f"{n}@example.org") for n, name in enumerate(names)
    )


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("chloe", {"Chloé"}),
        ("CHLOÉ", {"Chloé"}),
        (unicodedata.normalize("NFD", "chloé"), {"Chloé"}),
        ("strasse", {"Straße", "STRASSE"}),
        ("STRASSE", {"Straße", "STRASSE"}),
        ("straße", {"Straße", "STRASSE"}),
        ("ofﬁce", {"Office"}),
        ("łódź", {"Łódź"}),
        ("lodz", {"Łódź"}),
        ("ænima", {"Aenima"}),
        ("москва", {"МОСКВА"}),
        ("100%", {"100% Ada"}),
        ("％ad", set()),
        ("100% ada", {"100% Ada"}),
        ("under_score", {"Under_score"}),
        ("r_score", {"Under_score"}),
        ("u_d", set()),
        ("back\\slash", {"Back\\slash"}),
        ("%%%", set()),
        ("___", set()),
        ("\u0301", set()),
    ],
)
def test_search_ignores_case_and_accents_and_takes_signs_as_signs(word: str, found: set[str]) -> None:
    make("Chloé", "Straße", "STRASSE", "Office", "Łódź", "Aenima", "МОСКВА", "100% Ada", "Under_score", "Back\\slash")
    assert last_names(word) == found


def test_short_words_find_the_beginning_of_a_column() -> None:
    make("Li", "Lin", "Ali", "Éa", "ßen", "王小明")
    assert last_names("li") == {"Li", "Lin"}
    assert last_names("É") == last_names("ea") == {"Éa"}
    assert last_names("ß") == last_names("ss") == {"ßen"}
    assert last_names("王") == {"王小明"}


def test_short_words_beside_a_longer_one_are_found_anywhere() -> None:
    make("Grace 7", "Grace 8", "Seven 7")
    assert last_names("grace 7") == last_names("7 grace") == {"Grace 7"}


def test_short_words_do_not_find_hidden_columns() -> None:
    models.User.objects.bulk_create([list_rows.user(1, email="qx@example.org")])
    assert walk("users", search="qx")
    assert not walk("users", search="qx", hidden=frozenset({"email"}))


def test_submissions_are_found_by_the_title_of_their_form() -> None:
    form = list_rows.form(*list_rows.users(1), "Éclair survey")
    form.save()
    found = list_rows.submission(form, list_rows.START)
    found.save()
    assert walk("submissions", search="eclair") == [found.pk]
    assert walk("submissions", search="ec") == [found.pk]
    assert not walk("submissions", search="cl")


def test_settings_are_found_by_a_part_of_their_name() -> None:
    models.Setting.objects.create(key="mail.sender", value=1, version=1, updated_at=list_rows.START)
    assert walk("settings", search="SEND") == ["mail.sender"]


# -- plans ------------------------------------------------------------------------------------------------------------

ROWS, OLD = 20_000, 400
FILL = """
insert into users (id, email, first_name, last_name, plan, role, created_at, version, updated_at)
select gen_random_uuid(), 'person' || n || '@example.org', case when n < %s then 'Quentin' else 'Ada' end,
       'Person ' || n, 'free', 'member', timestamptz '2026-01-01' + n * interval '1 minute', 1, now()
  from generate_series(0, %s - 1) n
"""


@pytest.fixture
def old_matches() -> None:
    """Creates users of whom only the oldest match `quentin`; all match `person`."""
    with connection.cursor() as cursor:
        cursor.execute(FILL, [OLD, ROWS])
        cursor.execute("analyze users")


def test_matches_among_old_rows_are_found_by_the_search_index(old_matches: None) -> None:  # s1t5/mail-archiver#445
    page = listing.page("users", search="quentin")
    assert page.total_count == OLD
    assert page.items[0].email == f"person{OLD - 1}@example.org"
    near, hits, *_ = list_rows.plans("users", search="quentin", count=False)
    assert f"actual rows={reading.NEARBY}" in near.replace(".00", "")
    assert f"Rows Removed by Filter: {reading.NEARBY}" in near
    assert "Bitmap Index Scan on users_words" in hits
    assert "Seq Scan on" not in hits
    assert "users_live_created" not in hits
    found = walk("users", search="quentin", limit=100)
    assert len(found) == len(set(found)) == OLD
    assert walk_back("users", search="quentin", limit=100) == found


def test_a_common_word_is_found_along_the_sort(old_matches: None) -> None:
    first, *others = list_rows.plans("users", search="person", count=False)
    assert "Index Scan using users_live_created" in first
    assert "actual rows=26" in first.replace(".00", "")
    assert "users_words" not in "".join(others)


def test_short_words_are_found_by_the_indexes_of_beginnings(old_matches: None) -> None:
    for word in ("q", "qu", "zz"):
        _, hits, *_ = list_rows.plans("users", search=word, count=False)
        assert "Bitmap Index Scan on users_email_begins" in hits, word
        assert "Bitmap Index Scan on users_first_name_begins" in hits, word
        assert "Bitmap Index Scan on users_l" in hits, word  # users_last_name_begins or users_live_name
        assert "Seq Scan on" not in hits, word


def test_more_hits_than_the_cap_are_walked_along_the_sort(old_matches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HIT_CAP", OLD // 2)
    found = walk("users", search="quentin", limit=100)
    assert len(found) == len(set(found)) == OLD
    assert walk_back("users", search="quentin", limit=100) == found
