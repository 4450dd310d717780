"""An unreadable event stops no reader: it is shown as unreadable, parked and reported."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from backoffice import health
from backoffice.sections.forms import domain as forms
from backoffice.sections.users import domain as users
from events import commands, errors, head, removal, snapshots, store
from events.archive import reader as archives
from events.integrity import verify
from events.rebuild import builder as rebuild
from events.rebuild import replay
from events.subscriptions import parked as parking
from events.subscriptions import runner as subscriptions
from events.types import RecordedEvent, new_id
from metrics.management.commands import doctor
from realtime import encoding, frames, publish, relay, topics
from tests import factories
from tests.backoffice import api_client
from tests.events import effects as following
from tests.events.effects import catch_up, effect, subscription

pytestmark = pytest.mark.django_db(transaction=True)

JUNK = base64.b64encode(b"x" * 60).decode()
QUESTION = '{"fields": [{"id": "a", "type": "number", "max": 0}]}'
# Reason -> category, type, schema version, stored data.
CASES = {
    "not_json": ("form", "form.updated", 1, QUESTION.replace("0", "1" * 401)),
    "not_json-array": ("form", "form.updated", 1, "[1]"),
    "not_json-deep": ("form", "form.updated", 1, '{"fields": ' + "[" * 1100 + "]" * 1100 + "}"),
    "tampered-mark": ("form", "form.updated", 1, '{"$personal": {"fields": 1}}'),
    "does_not_fit": ("form", "form.updated", 1, '{"title": 5}'),
    "unknown_version": ("form", "form.updated", 99, '{"title": "New"}'),
    "unknown_type": ("form", "form.sneezed", 1, '{"title": "New"}'),
    "tampered": ("user", "user.updated", 1, '{"$personal": {"fields": ["email"], "text": "!"}}'.replace("!", JUNK)),
    "tampered-short": ("user", "user.updated", 1, '{"$personal": {"fields": ["email"], "text": "!"}}'),
}


def insert(stream: str, kind: str, schema_version: int, data: str) -> int:
    """Inserts an event as an older release or a manual change could have stored it; returns its position."""
    entry = (stream, stream, None, kind, schema_version, data, new_id())
    rows = store.query(store.APPEND_ONE, (*entry, "system", None, None, None, "{}"))
    position: int = rows[0][2]
    return position


class Broken:
    """A record with a readable event, an unreadable one, and a readable one after it."""

    def __init__(self, case: str) -> None:
        self.why = case.partition("-")[0]
        category, kind, version, data = CASES[case]
        self.key = factories.user() if category == "user" else factories.form(title="Before")
        self.category, self.stream = category, f"{category}-{self.key}"
        self.position = insert(self.stream, kind, version, data)
        last = users.UserUpdated(first_name="After") if category == "user" else forms.FormUpdated(description="After")
        self.after = store.append(self.stream, [last]).position
        self.other = store.append(f"user-{new_id()}", [users.UserUpdated(first_name="Ada")]).position

    @property
    def finding(self) -> tuple[int, str, int, str]:
        return self.position, self.stream, 2, self.why


@pytest.fixture(autouse=True)
def _readable_afterwards(transactional_db: None) -> Iterator[None]:
    """Removes the contents of unreadable events after each test, because other tests read the same log."""
    start = head.safe()
    yield
    store.execute("delete from events_parked where position > %s", (start,))
    for event in store.read_all(start, 10_000, upto=head.safe()):
        if event.unreadable:
            removal.remove(event.position, "made by a test")


@pytest.fixture(params=list(CASES))
def broken(request: pytest.FixtureRequest) -> Broken:
    return Broken(request.param)


@pytest.fixture
def effects() -> Iterator[str]:
    with following.effects() as table:
        yield table


def test_streams_and_the_log_are_read_past_an_unreadable_event(broken: Broken) -> None:
    first, found, last = store.read_stream(broken.stream)
    assert (found.position, found.unreadable) == (broken.position, broken.why)
    assert (first.unreadable, last.unreadable) == (None, None)
    assert found.to_wire()["unreadable"] == broken.why
    assert found.data == ({"title": "New"} if broken.why == "unknown_type" else {})
    log = store.read_all(broken.position - 1, upto=head.safe())
    assert {broken.position, broken.other} <= {event.position for event in log}
    with pytest.raises(errors.InvalidEvent):
        _ = found.event


def test_state_is_marked_as_incomplete(broken: Broken) -> None:
    found = snapshots.folded(broken.stream)
    assert [event.position for event in found.unreadable] == [broken.position]
    assert found.version == 3
    assert snapshots.folded(broken.stream, 1).unreadable == ()


def test_command_on_an_incomplete_state_is_refused(broken: Broken) -> None:
    data = users.UpdateUser(first_name="X") if broken.category == "user" else forms.UpdateForm(title="X")
    with pytest.raises(errors.UnreadableEvent) as refused:
        commands.dispatch(factories.command(data, broken.key))
    assert (refused.value.status, refused.value.code) == (422, "unreadable_event")
    with pytest.raises(errors.UnreadableEvent):
        commands.dispatch_many([factories.command(data, broken.key)])
    assert store.version_of(broken.stream) == 3


def test_pages_show_an_event_as_unreadable(broken: Broken) -> None:
    client = api_client.signed_in("admin").client
    base = f"admin:backoffice_{broken.category}"
    shown = [
        reverse("admin:events_storedevent_changelist"),
        reverse("admin:events_storedevent_change", args=[broken.position]),
        reverse(f"{base}_history", args=[broken.key]),
        reverse(f"{base}_version", args=[broken.key, 2]),
        reverse(f"{base}_version", args=[broken.key, 3]),
        reverse(f"{base}_change", args=[broken.key]),
    ]
    for address in shown:
        page = client.get(address)
        assert page.status_code == 200, address
        assert "nreadable" in page.content.decode(), address
    event_page = client.get(shown[1]).content.decode()
    assert "No field of the record changed." not in event_page, "what it changed is not known"
    assert '<pre class="json' not in event_page, "empty data would pass for what is stored"
    for address in (
        reverse("admin:index"),
        reverse(f"{base}_changelist"),
        reverse(f"{base}_compare", args=[broken.key]) + "?a=1&b=3",
        reverse(f"{base}_live", args=[broken.key]) + "?since=1",
        reverse("admin:events_storedevent_change", args=[broken.after]),
    ):
        assert client.get(address).status_code == 200, address


def test_api_shows_an_event_as_unreadable(broken: Broken) -> None:
    caller = api_client.signed_in("admin")
    listed = caller.get(f"events/?after={broken.position - 1}").json()["items"][0]
    assert (listed["position"], listed["stream"], listed["unreadable"]) == (
        broken.position,
        broken.stream,
        broken.why,
    )
    assert [event.get("unreadable") for event in caller.get(f"streams/{broken.stream}/").json()["items"]] == [
        None,
        broken.why,
        None,
    ]
    state = caller.get(f"streams/{broken.stream}/state/").json()
    assert state["unreadable"] == [{"position": broken.position, "version": 2, "unreadable": broken.why}]
    assert caller.get(f"{broken.category}s/{broken.key}/").status_code == 200
    refused = caller.command(f"{broken.category}.delete", broken.key, reason="why not")
    assert (refused.status_code, refused.json()["code"]) == (422, "unreadable_event")


def test_export_contains_an_unreadable_event_and_import_names_its_line(broken: Broken, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    call_command("export_events", str(file), after=broken.position - 1, stdout=StringIO(), stderr=StringIO())
    first = orjson.loads(file.read_bytes().splitlines()[0])
    assert (first["position"], first["unreadable"]) == (broken.position, broken.why)
    with pytest.raises(Exception, match=r"line 1: .*could not be read where it was exported"):
        call_command("import_events", str(file), stdout=StringIO())


def test_subscription_parks_its_stream_and_continues(broken: Broken, effects: str) -> None:
    wanted = subscription(start=broken.position - 1)
    catch_up(wanted)
    assert effect() == [broken.other]
    [parked] = parking.parked(wanted.name)
    assert (parked.stream, parked.position, parked.waiting) == (broken.stream, broken.position, 1)
    assert f"({broken.why})" in (parked.error or "")
    assert parking.replay(wanted.name and wanted, broken.stream).handled == 0


def test_relay_publishes_and_parks_an_unreadable_event(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[RecordedEvent] = []
    # Other tests cover Valkey's part of the relay; this one checks only what the relay passes to it.
    monkeypatch.setattr(publish, "send_raw", lambda raw: sent.extend(publish.decode(raw).events) or True)
    lease = subscriptions.acquire(relay.SUBSCRIPTION, "a")
    assert lease is not None
    lease.position = broken.position - 1
    store.execute("update events_checkpoint set position = %s where name = 'relay'", (lease.position,))
    while subscriptions.step(relay.SUBSCRIPTION, "a", lease):
        pass
    assert [event.position for event in sent] == [broken.position, broken.after, broken.other]
    assert sent[0].unreadable == broken.why
    [parked] = parking.parked("relay")
    assert (parked.stream, parked.position, parked.waiting) == (broken.stream, broken.position, 0)
    assert health.database_and_checks()[:2] == ("ok", "unreadable events")
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert doctor.events().state == "wrong"
    assert f"{broken.position} ({broken.stream})" in doctor.events().text
    with pytest.raises(errors.NotParked):
        parking.replay(relay.SUBSCRIPTION, f"user-{new_id()}")
    assert parking.replay(relay.SUBSCRIPTION, broken.stream).left == 1
    parking.skip(relay.SUBSCRIPTION, broken.stream, broken.position, "the release that wrote it is gone")
    assert health.database_and_checks()[:2] == ("ok", "ok")


def test_socket_receives_an_unreadable_event_without_data(broken: Broken) -> None:
    event = store.read_stream(broken.stream, 1, 1)[0]
    found = topics.find(f"{broken.category}s")
    assert found is not None
    body = encoding._body_of(event, found[0], "admin")
    frame = frames.decode_server(f'{{"type":"event","topics":[],"previous":0,{body}')
    assert isinstance(frame, frames.EventFrame)
    assert (frame.position, frame.unreadable, frame.data) == (broken.position, broken.why, {})


def test_replay_keeps_an_unreadable_event_parked(broken: Broken) -> None:
    found = replay.read(broken.category, broken.position - 1, head.safe(), 10)
    assert [(position, event is None) for position, event in found][:2] == [
        (broken.position, True),
        (broken.after, False),
    ]


@pytest.mark.parametrize("case", list(CASES))
def test_rebuild_omits_and_reports_an_unreadable_event(own_database: None, case: str) -> None:
    broken = Broken(case)
    table = f"{broken.category}s"
    done = rebuild.rebuild(table, fresh=True)
    assert (done.phase, done.unreadable) == ("done", 1)
    rows = store.query(f"select version from {table} where id = %s", (broken.key,))
    assert rows == [(3,)]


@pytest.mark.parametrize("case", list(CASES))
def test_verification_reports_an_unreadable_event(own_database: None, case: str) -> None:
    broken = Broken(case)
    report = verify.verify()
    assert (report.ok, report.unreadable) == (True, 1)
    assert [(one.position, one.stream, one.version, one.why) for one in report.unread] == [broken.finding]
    assert verify.verify_stream(broken.stream).unreadable == 1
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_events", stdout=out)
    assert ended.value.code == 1
    assert f"position {broken.position}, {broken.stream} version 2" in out.getvalue()


def test_archived_unreadable_event_is_read_the_same_way(broken: Broken) -> None:
    rows = [row for rows in archives.rows(0, head.safe()) for row in rows]
    found = archives.events_of(rows)
    assert [event.unreadable for event in found if event.position == broken.position] == [broken.why]


def test_snapshot_does_not_hide_an_unreadable_event(broken: Broken) -> None:
    for number in range(20):
        insert(broken.stream, f"{broken.category}.updated", 1, json.dumps({"x": number}))
    snapshots.refresh()
    assert store.query("select 1 from events_snapshot where stream = %s", (broken.stream,)) == []


def test_unknown_type_without_a_record_is_shown_as_stored() -> None:
    position = insert(f"weather-{new_id()}", "weather.changed", 1, '{"to": "rain"}')
    [event] = store.read_all(position - 1, upto=position)
    assert (event.unreadable, event.data) == (None, {"to": "rain"})


def test_number_stored_by_an_older_release_breaks_no_list() -> None:
    """The read table has the number too, as a projection of the older release stored it."""
    key = factories.form()
    digits = "1" * 401
    question = QUESTION.replace("0", digits)
    insert(f"form-{key}", "form.updated", 1, question)
    store.execute("update forms set fields = %s::jsonb->'fields', version = 2 where id = %s", (question, key))
    caller = api_client.signed_in("admin")
    assert caller.get(f"forms/{key}/").json()["fields"][0]["max"] == digits
    assert caller.get("forms/").status_code == 200
    for name in ("changelist", "change", "history"):
        args = [] if name == "changelist" else [key]
        assert caller.client.get(reverse(f"admin:backoffice_form_{name}", args=args)).status_code == 200


def test_unreadable_revocation_closes_all_sockets_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    from realtime import auth, revocation

    taken: list[Any] = []

    class Socket:
        identity = auth.Identity(principal=None, person="7", name="", session="key:abc", again=lambda: None)

    monkeypatch.setattr(revocation.Revoker, "_apply", lambda _self, _socket, revoked: taken.append(revoked))
    watching = object.__new__(revocation.Revoker)
    watching._remembered, watching._sockets_by_person = revocation.deque(maxlen=9), {"7": {Socket()}}  # type: ignore[dict-item]
    position = insert("staff-7", "staff.key_revoked", 99, '{"key": "abc"}')
    events: Sequence[RecordedEvent] = store.read_all(position - 1, upto=position)
    watching.revoke(events[0])
    assert taken == [auth.Revocation("7", "close")]
