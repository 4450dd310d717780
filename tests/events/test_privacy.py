"""Keys: the tree with leaves that can be forgotten, master keys, and their rotation."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from backoffice.sections.users.domain import CreateUser, UserUpdated
from events import checks, commands, errors, store
from events.privacy import encryption, erasure, key_tree, master_keys, subject_keys
from events.types import Command, new_id


def test_forgotten_leaf_is_gone_and_other_leaves_are_unchanged() -> None:
    names = [f"submission-{number}" for number in range(60)]
    nodes, secret = key_tree.new_tree(), b"s" * 32
    at = {name: key_tree.path(name, secret) for name in names}
    before = {name: key_tree.leaf(nodes, at[name]) for name in names}
    assert len(set(before.values())) == len(names)
    for gone in names[:5]:
        nodes = key_tree.unpack(key_tree.pack(key_tree.forget(nodes, at[gone])))
    assert b"" not in nodes, "the root, from which every leaf can be derived, is not kept"
    after = {name: key_tree.leaf(nodes, at[name]) for name in names}
    assert after == before | dict.fromkeys(names[:5])
    assert key_tree.forget(nodes, at[names[0]]) == nodes
    assert len(nodes) <= 5 * 63 * key_tree.DEPTH
    assert key_tree.path(names[0], b"t" * 32) != at[names[0]], "without the secret a path cannot be computed"


def encoded(byte: bytes) -> str:
    return base64.b64encode(byte * 32).decode()


@pytest.mark.parametrize("text", ["a", "a:", "a:AAAA", f"a b:{encoded(b'x')}", f"a:{encoded(b'x')},a:{encoded(b'y')}"])
def test_invalid_master_keys_are_rejected_without_quoting_them(text: str) -> None:
    with pytest.raises(ValueError, match=r"key \d is not|two keys") as refused:
        master_keys.parse(text)
    assert encoded(b"x") not in str(refused.value)


def test_master_keys_keep_their_order() -> None:
    assert list(master_keys.parse(f"2027:{encoded(b'y')}, 2026:{encoded(b'x')}")) == ["2027", "2026"]


@pytest.mark.django_db
def test_rotated_keys_are_read_with_the_new_master_key(settings: Any) -> None:
    stream, old, new = f"user-{new_id()}", {"old": b"o" * 32}, {"new": b"n" * 32}
    settings.PRIVACY_KEYS = old | settings.PRIVACY_KEYS
    store.append(stream, [UserUpdated(first_name="Ada")])
    raw = store.query("select data::text, hash from events_event where stream = %s", (stream,))

    def read() -> str:
        subject_keys.CACHE.clear()
        name: str = store.read_stream(stream)[0].data["first_name"]
        return name

    def check_ids() -> set[str | None]:
        with connection.cursor() as cursor:
            return {message.id for message in checks._master_keys(cursor)}

    settings.PRIVACY_KEYS = new | settings.PRIVACY_KEYS
    assert read() == "Ada"
    assert check_ids() == {"events.W004"}
    call_command("rotate_keys")
    assert erasure.outdated() == 0
    settings.PRIVACY_KEYS = new
    assert read() == "Ada"
    assert check_ids() == set()
    assert store.query("select data::text, hash from events_event where stream = %s", (stream,)) == raw
    settings.PRIVACY_KEYS = {"new": b"x" * 32}
    subject_keys.CACHE.clear()
    assert store.read_stream(stream)[0].unreadable == "no_key"
    settings.PRIVACY_KEYS = {"other": b"o" * 32}
    assert check_ids() == {"events.E004"}
    with pytest.raises(CommandError, match="lacks the key 'new'"):
        call_command("rotate_keys")


@pytest.mark.django_db(transaction=True)
def test_rolled_back_key_is_never_used() -> None:
    stream = f"user-{new_id()}"
    with transaction.atomic():
        store.append(stream, [UserUpdated(first_name="Never")])
        assert store.read_stream(stream)[0].data == {"first_name": "Never"}
        transaction.set_rollback(True)
    with transaction.atomic():
        store.append(stream, [UserUpdated(first_name="Ada")])
        with transaction.atomic():
            store.append(stream, [UserUpdated(first_name="Never")])
            transaction.set_rollback(True)
    subject_keys.CACHE.clear()
    assert [event.data for event in store.read_stream(stream)] == [{"first_name": "Ada"}]


@pytest.mark.django_db(transaction=True)
def test_rejected_append_leaves_no_key() -> None:
    stream = f"user-{new_id()}"
    with pytest.raises(errors.WrongExpectedVersion):
        store.append(stream, [UserUpdated(first_name="Ada")], store.EXISTS)
    assert store.query("select 1 from events_subject_key where subject = %s", (stream,)) == []


@pytest.mark.django_db(transaction=True)
def test_existing_key_of_a_new_record_is_used() -> None:
    """This happens when the restored backup of the keys is newer than that of the log."""
    key = new_id()
    subject = f"user-{key}"
    store.query(
        subject_keys.MAKE, ([subject], master_keys.current(), [master_keys.wrap(subject, subject_keys.new_secret())[1]])
    )
    data = CreateUser(email=f"{key}@example.org", first_name="Ada")
    commands.dispatch(Command(id=new_id(), key=str(key), data=data))
    assert store.read_stream(subject)[0].data["first_name"] == "Ada"


@pytest.mark.django_db
def test_ciphertext_moved_to_another_event_is_rejected() -> None:
    streams = [f"user-{new_id()}" for _ in range(2)]
    for stream in streams:
        store.append(stream, [UserUpdated(first_name="Ada")])
    event = store.read_stream(streams[0])[0]
    decryptor = encryption.Decryptor()
    data = orjson.loads(store.query("select data::text from events_event where stream = %s", (streams[0],))[0][0])
    decryptor.add(streams[0], data)
    decryptor.learn(store.query(subject_keys.KEYS, (decryptor.missing or [streams[0]],)), store.once_committed)
    with pytest.raises(errors.InvalidEvent, match="tampered"):
        decryptor.decrypt(streams[0], new_id(), event.type, dict(data))
    decryptor.decrypt(streams[0], event.event_id, event.type, data)
    assert data == {"first_name": "Ada"}
