"""The guarantees of appending and reading."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import msgspec
import pytest
from django.db import connection, transaction

from backoffice.sections.users.domain import UserCreated, UserDeleted, UserUpdated
from events import context, encoding, errors, head, store, types
from events.types import new_id
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def stream() -> str:
    return f"user-{new_id()}"


def renamed(name: str = "Ada") -> UserUpdated:
    return UserUpdated(first_name=name)


def test_append_numbers_events_from_one_without_gaps() -> None:
    name = stream()
    first = store.append(name, [renamed("A")])
    second = store.append(name, [renamed("B"), renamed("C")])
    assert (first.version, second.version) == (1, 3)
    events = store.read_stream(name)
    assert [(event.version, event.event.first_name) for event in events] == [(1, "A"), (2, "B"), (3, "C")]
    assert [event.position for event in events] == [first.position, *second.positions]


@pytest.mark.parametrize(
    ("before", "expected", "accepted"),
    [
        (0, store.ANY, True),
        (2, store.ANY, True),
        (0, store.NO_STREAM, True),
        (2, store.NO_STREAM, False),
        (0, store.EXISTS, False),
        (2, store.EXISTS, True),
        (2, 2, True),
        (2, 1, False),
        (2, 3, False),
        (0, 1, False),
    ],
)
@pytest.mark.parametrize("count", [1, 2], ids=["one event", "several"])
def test_wrong_expected_version_is_rejected(before: int, expected: int | None, accepted: bool, count: int) -> None:
    name = stream()
    if before:
        store.append(name, [renamed()] * before)
    if accepted:
        assert store.append(name, [renamed()] * count, expected).version == before + count
        return
    with pytest.raises(errors.WrongExpectedVersion) as caught:
        store.append(name, [renamed()] * count, expected)
    assert caught.value.stream == name
    assert caught.value.actual == before or (caught.value.actual is None and before > 0 == expected)
    assert store.version_of(name) == before


def test_append_to_several_streams_is_atomic() -> None:
    good, bad = stream(), stream()
    store.append(bad, [renamed()])
    wanted = [store.Append(stream=good, events=[renamed()]), store.Append(stream=bad, events=[renamed()], expected=0)]
    with pytest.raises(errors.WrongExpectedVersion):
        store.append_many(wanted)
    assert store.version_of(good) == 0
    wanted[1] = store.Append(stream=bad, events=[renamed(), renamed()], expected=1)
    placed = store.append_many(wanted)
    assert [(done.stream, done.version) for done in placed] == [(good, 1), (bad, 3)]


def test_event_id_is_stored_once() -> None:
    event_id = new_id()
    store.append(stream(), [renamed()], event_ids=[event_id])
    with pytest.raises(errors.DuplicateEvent):
        store.append(stream(), [renamed()], event_ids=[event_id])
    with pytest.raises(errors.DuplicateEvent):
        store.append(stream(), [renamed(), renamed()], event_ids=[new_id(), event_id])


def test_invalid_event_is_rejected_with_a_reason() -> None:
    with pytest.raises(errors.EventTooLarge, match="bytes"):
        store.append(stream(), [renamed("x" * (encoding.MAX_EVENT_BYTES + 1))])
    with pytest.raises(errors.InvalidEvent, match="NUL"):
        store.append(stream(), [renamed("a\0b")])
    with pytest.raises(errors.InvalidEvent, match="stream name"):
        store.append("nonsense", [renamed()])
    with pytest.raises(errors.InvalidEvent, match="Nothing"):
        store.append(stream(), [])
    with pytest.raises(errors.UnknownEventType):

        class Unregistered(types.Event):
            pass

        store.append(stream(), [Unregistered()])
    with pytest.raises(errors.InvalidEvent, match="only once"):
        name = stream()
        store.append_many([store.Append(stream=name, events=[renamed()])] * 2)


def test_text_backslash_u0000_is_not_treated_as_nul() -> None:
    name = stream()
    store.append(name, [renamed("C:\\u0000")])
    assert store.read_stream(name)[0].event.first_name == "C:\\u0000"


def test_context_is_stored_with_the_event() -> None:
    name, cause = stream(), new_id()
    with context.acting(actor="staff:7", actor_name="ada", reason="by phone", ip="10.0.0.1", causation_id=cause) as who:
        store.append(name, [renamed()])
    event = store.read_stream(name)[0]
    assert (event.actor, event.reason, event.correlation_id, event.causation_id) == (
        "staff:7",
        "by phone",
        who.correlation_id,
        cause,
    )
    assert event.metadata == {"actor_name": "ada", "ip": "10.0.0.1"}


def test_log_is_read_in_order_and_in_pages() -> None:
    before = head.safe()
    for number in range(7):
        store.append(stream(), [renamed(str(number))])
    upto, seen, after = head.safe(), [], before
    while page := store.read_all(after, 3, upto=upto):
        seen += page
        after = page[-1].position
    assert [event.event.first_name for event in seen] == [str(number) for number in range(7)]
    assert [event.position for event in seen] == sorted(event.position for event in seen)


def test_log_can_be_filtered_by_type_and_category() -> None:
    before = head.safe()
    store.append(stream(), [renamed()])
    store.append(f"form-{new_id()}", [renamed()])
    store.append(stream(), [UserDeleted(deleted_at=types.EPOCH_START)])
    read = {"after": before, "upto": head.safe()}
    assert [event.type for event in store.read_all(**read, types=["user.deleted"])] == ["user.deleted"]
    assert [event.category for event in store.read_all(**read, categories=["form"])] == ["form"]


def test_stream_is_read_up_to_a_version_or_an_instant() -> None:
    name = stream()
    for letter in "ABC":
        store.append(name, [renamed(letter)])
    events = store.read_stream(name)
    assert [event.version for event in store.read_stream(name, upto=2)] == [1, 2]
    assert [event.version for event in store.read_stream(name, at=events[1].recorded_at)] == [1, 2]
    assert store.read_stream(name, at=events[0].recorded_at - timedelta(microseconds=1)) == []


def test_hash_chain_is_the_same_for_every_append_function() -> None:
    name = stream()
    store.append(name, [renamed("A")])
    store.append(name, [renamed("B"), renamed("C")])
    store.append_many([store.Append(stream=s, events=[renamed("D")]) for s in (name, stream())])
    rows = store.query(
        """select hash, events_digest(stream, type, schema_version, data, event_id, recorded_at, actor, reason,
                  correlation_id, causation_id, metadata) from events_event where stream = %s order by version""",
        (name,),
    )
    link = b""
    for stored, digest in rows:
        link = hashlib.sha256(link + digest).digest() if link else digest
        assert bytes(stored) == link
    assert bytes(store.query("select hash from events_stream where stream = %s", (name,))[0][0]) == link


def test_digest_does_not_depend_on_the_sessions_time_zone() -> None:
    name = stream()
    store.append(name, [renamed()])
    digest = """select events_digest(stream, type, schema_version, data, event_id, recorded_at, actor, reason,
                correlation_id, causation_id, metadata) from events_event where stream = %s"""
    here = store.query(digest, (name,))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("set local timezone = 'Asia/Tokyo'")
        assert store.query(digest, (name,)) == here


def test_event_of_an_unregistered_type_can_be_read() -> None:
    name = stream()
    store.query(
        """select o_version from events_append_one(%s, null, 'dragon.slain', 3::smallint, '{"head": 7}', %s,
           'system', null, null, null, '{}')""",
        (name, new_id()),
    )
    event = store.read_stream(name)[0]
    assert (event.type, event.data) == ("dragon.slain", {"head": 7})
    with pytest.raises(errors.UnknownEventType):
        _ = event.event


def test_json_form_of_an_event_matches_the_contract() -> None:
    name = stream()
    store.append(name, [UserCreated(**_user())])
    wire = store.read_stream(name)[0].to_wire()
    assert wire.keys() >= {"position", "stream", "version", "event", "schema_version", "data", "timestamp", "actor"}
    assert wire["event"] == "user.created"
    assert msgspec.json.encode(wire)


def _user() -> dict[str, object]:
    return {
        "email": "ada@example.org",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "plan": "free",
        "role": "member",
        "created_at": types.EPOCH_START,
    }


def test_append_in_a_failed_transaction_stores_nothing() -> None:
    name = stream()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        store.append(name, [renamed()])
        _ = 1 / 0
    assert store.version_of(name) == 0
    assert factories.user()
