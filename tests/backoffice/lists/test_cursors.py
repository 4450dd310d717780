"""Cursors of lists: they reveal nothing, and an altered one is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.core import signing
from hypothesis import given
from hypothesis import strategies as st

from backoffice import listing
from tests.backoffice import api_client, list_rows
from tests.backoffice.list_rows import START

pytestmark = pytest.mark.django_db


def cursor_of(spec: str = "users", sort: str = "email") -> str:
    found = listing.page(spec, sort=sort, limit=1).next_cursor
    assert found
    return found


def test_a_cursor_does_not_reveal_the_row_it_begins_after() -> None:
    list_rows.users(3)
    cursor = cursor_of()
    assert cursor == "".join(c for c in cursor if c.isalnum() or c in "-_")
    assert len(cursor) < 200
    assert b"person" not in base64.urlsafe_b64decode(cursor + "==")
    assert cursor != cursor_of()  # the same place twice cannot be recognised either


def test_every_altered_character_is_refused() -> None:
    list_rows.users(3)
    cursor = cursor_of()
    for place, character in enumerate(cursor):
        altered = cursor[:place] + ("B" if character != "B" else "C") + cursor[place + 1 :]
        with pytest.raises(listing.InvalidCursor):
            # The last character can have bits that belong to no byte.
            listing.page("users", sort="email", cursor=altered if place < len(cursor) - 1 else altered[:-1])


@given(st.text(max_size=300))
def test_any_other_text_is_refused(cursor: str) -> None:
    if cursor:
        with pytest.raises(listing.InvalidCursor):
            listing.page("users", sort="email", cursor=cursor)


def test_a_signed_cursor_of_an_earlier_release_is_refused() -> None:
    signer = signing.Signer(salt="backoffice.listing.users")
    cursor = signer.sign_object(["-created_at", 0, START.isoformat(), str(list_rows.user(1).pk)], compress=False)
    with pytest.raises(listing.InvalidCursor):
        listing.page("users", cursor=cursor)


def test_a_cursor_belongs_to_one_list_and_one_order() -> None:
    list_rows.users(3)
    cursor = cursor_of(sort="created_at")
    assert listing.page("users", sort="created_at", cursor=cursor).items
    for spec, sort in (("users", "-created_at"), ("users", "email"), ("forms", "created_at")):
        with pytest.raises(listing.InvalidCursor):
            listing.page(spec, sort=sort, cursor=cursor)


def test_a_cursor_outlives_a_change_of_the_secret_key_with_its_fallback(settings: Any) -> None:
    list_rows.users(3)
    cursor, before = cursor_of(), settings.SECRET_KEY
    settings.SECRET_KEY = "another secret key, of fifty characters and a few more"
    with pytest.raises(listing.InvalidCursor):
        listing.page("users", sort="email", cursor=cursor)
    settings.SECRET_KEY_FALLBACKS = [before]
    assert listing.page("users", sort="email", cursor=cursor).items


def test_api_refuses_an_altered_cursor_with_400() -> None:
    list_rows.users(3)
    manager, cursor = api_client.signed_in("manager"), cursor_of()
    for altered in (cursor[:-4], cursor[::-1], f"{cursor}AAAA", "%C3%A9", "=", "A" * 5000):
        api_client.problem(manager.get(f"users/?sort=email&cursor={altered}"), 400, "invalid_cursor")
