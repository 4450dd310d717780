"""Ids and digests that can be recomputed only with the subject's key."""

from __future__ import annotations

import uuid

import pytest
from django.db import transaction

from events import errors, store
from events.privacy import erasure, pseudonyms
from events.types import new_id
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def subject() -> str:
    return f"user-{factories.user()}"


def test_same_text_has_the_same_id_for_one_subject_only() -> None:
    one, other = subject(), subject()
    first, again, elsewhere = pseudonyms.make(one), pseudonyms.of(one), pseudonyms.make(other)
    assert again is not None
    assert first.id("anna@example.org") == again.id("anna@example.org")
    assert first.digest("anna@example.org") == again.digest("anna@example.org")
    assert len({first.id("a"), first.id("b"), elsewhere.id("a")}) == 3


def test_ids_are_uuid_version_8() -> None:
    made = pseudonyms.make(subject()).id("x")
    assert (made.version, made.variant) == (8, uuid.RFC_4122)


def test_subject_without_a_key_has_no_pseudonyms() -> None:
    nobody = f"user-{new_id()}"
    assert pseudonyms.of(nobody) is None
    made = pseudonyms.make(nobody)
    again = pseudonyms.of(nobody)
    assert again is not None
    assert made.id("x") == again.id("x")


def test_concurrent_calls_make_the_same_key() -> None:
    nobody = f"user-{new_id()}"
    threads = [factories.Thread(lambda: pseudonyms.make(nobody).id("x")) for _ in range(4)]
    assert len({thread.result() for thread in threads}) == 1


def test_erased_subject_never_has_pseudonyms_again() -> None:
    gone = subject()
    pseudonyms.make(gone)
    with transaction.atomic():
        erasure.shred([gone])
    for ask in (pseudonyms.of, pseudonyms.make):
        with pytest.raises(errors.Erased):
            ask(gone)
    assert store.query("select secret from events_subject_key where subject = %s", (gone,)) == [(None,)]
