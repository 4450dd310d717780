"""The operator pages: content, actions and permissions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from backoffice import access, health
from backoffice.sections.users.domain import UserUpdated
from events import head, jobs, store
from events.subscriptions import checkpoints, parked
from events.subscriptions import runner as subscriptions
from events.subscriptions.runner import Subscription
from events.types import new_id
from metrics.monitoring import log_head, operator_action
from tests import factories
from tests.backoffice import api_client
from tests.events import effects

pytestmark = pytest.mark.django_db(transaction=True)  # an open transaction delays the head

LOG = "admin:events_storedevent_changelist"


def signed_in(role: str) -> Client:
    client = Client()
    client.force_login(api_client.staff(role))
    return client


class Mailer:
    """A subscription that fails on the streams in `bad`."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.subscription = Subscription(
            name=f"mailer-{uuid.uuid4().hex[:8]}", handle=self.handle, start=head.safe(), poll=0.05
        )

    def handle(self, events: Any) -> None:
        for event in events:
            if event.stream in self.bad:
                raise ValueError(f"no mail to {event.stream}")

    def park(self, events: int = 1) -> str:
        """Parks one more stream with this number of events."""
        stream = f"user-{factories.user(email=f'{new_id()}@hidden.example.org')}"
        for _ in range(events - 1):
            store.append(stream, [UserUpdated(last_name="L")])
        self.bad.add(stream)
        effects.catch_up(self.subscription)
        return stream


@pytest.fixture
def mailer() -> Iterator[Mailer]:
    made = Mailer()
    subscriptions.register(made.subscription)
    yield made
    del checkpoints._registered[made.subscription.name]


@pytest.fixture
def other() -> Iterator[psycopg.Connection]:
    """Opens a second session, which uses transactions."""
    known = {"host", "port", "user", "password", "dbname"}
    parameters = {name: value for name, value in connection.get_connection_params().items() if name in known}
    with psycopg.connect(**parameters, application_name="nightly import") as session:
        yield session
        session.rollback()


def at(name: str, *args: Any) -> str:
    return reverse(f"admin:system_{name}", args=args)


def parked_at(mailer: Mailer, stream: str) -> str:
    return f"{at('parked', mailer.subscription.name)}?stream={stream}"


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


# -- permissions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", api_client.ROLES)
def test_role_decides_about_every_page_and_action(role: str, mailer: Mailer) -> None:
    stream, name, client = mailer.park(2), mailer.subscription.name, signed_in(role)
    pages = [at("subscriptions"), at("subscription", name), parked_at(mailer, stream), at("head"), at("rebuilds")]
    wanted = 200 if access.role_may(role, "view", "system") else 403
    assert [client.get(page).status_code for page in pages] == [wanted] * len(pages)
    assert [client.get(f"{page.partition('?')[0]}?fragment=1&stream={stream}").status_code for page in pages] == [
        wanted
    ] * len(pages)
    (before,) = parked.parked(name)
    verified, asked = store.version_of(jobs.VERIFICATION), store.version_of("rebuild-users")
    actions = [
        ("replay", at("replay", name), {"stream": stream}),
        ("skip", at("skip", name), {"stream": stream, "position": before.position, "reason": "x"}),
        ("verify", at("verify"), {}),
        ("rebuild", at("rebuild", "users"), {}),
        ("rebuild", at("cancel", "users"), {}),
    ]
    for action, address, form in actions:
        may = access.role_may(role, action, "system")
        assert client.post(address, form).status_code == (302 if may else 403), address
        assert client.get(address).status_code == (405 if may else 403), address
    done = {action for action in ("replay", "skip") if access.role_may(role, action, "system")}
    after = parked.parked(name)[0]
    assert after.attempts == (0 if "skip" in done else before.attempts + ("replay" in done))
    assert after.waiting == (0 if "skip" in done else 1)
    assert store.version_of(jobs.VERIFICATION) == verified + access.role_may(role, "verify", "system")
    assert store.version_of("rebuild-users") == asked + 2 * access.role_may(role, "rebuild", "system")
    shown = {
        entry["item"].url_name for group in client.get("/admin/").context["navigation"] for entry in group["entries"]
    }
    assert ("admin:system_head" in shown) == access.role_may(role, "view", "system")


def test_anonymous_visitor_is_sent_to_the_sign_in_page() -> None:
    for page in ("subscriptions", "head", "rebuilds"):
        assert "/login/" in Client().get(at(page))["Location"]


def test_errors_are_hidden_from_a_role_with_hidden_fields(mailer: Mailer, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = mailer.park()
    store.query(
        "update events_checkpoint set error = 'no mail to all' where name = %s returning 1", (mailer.subscription.name,)
    )
    pages = [at("subscriptions"), at("subscription", mailer.subscription.name), parked_at(mailer, stream)]
    manager = signed_in("manager")
    assert all("no mail to" in text_of(manager.get(page)) for page in pages)
    assert "hidden.example.org" in text_of(manager.get(pages[-1]))
    factories.hide(monkeypatch, "manager", "user", "email")
    for page in pages:
        seen = text_of(manager.get(page))
        assert "no mail to" not in seen
        assert "Errors quote data that your role does not see." in seen
        assert "hidden.example.org" not in seen


# -- subscriptions --------------------------------------------------------------------------------------------------


def test_subscription_page_shows_backlog_age_and_runner(mailer: Mailer) -> None:
    subscriptions.acquire(mailer.subscription, "elsewhere:77:abc")
    effects.grow(3)
    client = signed_in("manager")
    page = client.get(at("subscriptions"))
    row = next(row for row in page.context["rows"] if row.status.subscription == mailer.subscription.name)
    assert (row.status.behind, row.status.state, row.host, row.pid) == (3, "running", "elsewhere", "77")
    assert row.status.seconds is not None
    assert "run by process 77 on elsewhere" in text_of(page)
    subscriptions.release(mailer.subscription, "elsewhere:77:abc")
    effects.catch_up(mailer.subscription)
    fresh = client.get(at("subscriptions"), {"fragment": "1"})
    row = next(row for row in fresh.context["rows"] if row.status.subscription == mailer.subscription.name)
    assert (row.status.behind, row.status.seconds) == (0, None)
    assert fresh["X-As-Of"]
    assert "<html" not in text_of(fresh)
    assert f'data-part="{mailer.subscription.name}"' in text_of(fresh)


def test_parked_stream_is_replayed_after_the_cause_is_fixed(mailer: Mailer) -> None:
    stream, name = mailer.park(3), mailer.subscription.name
    person = api_client.staff("manager")
    client = Client()
    client.force_login(person)
    page = text_of(client.get(parked_at(mailer, stream)))
    for part in (f"no mail to {stream}", "in handle", "user.created", "Events waiting behind it", "1 attempt"):
        assert part in page, part
    again = client.post(at("replay", name), {"stream": stream}, follow=True)
    assert "1 stream failed again." in text_of(again)
    assert parked.parked(name)[0].attempts == 2
    mailer.bad.clear()
    done = client.post(at("replay", name), {"stream": stream, "reason": "Address corrected"}, follow=True)
    assert "1 stream was replayed." in text_of(done)
    assert parked.parked(name) == []
    twice = client.post(at("replay", name), {"stream": stream, "reason": "Address corrected"}, follow=True)
    assert "1 stream is no longer parked." in text_of(twice)
    assert "replay again" not in text_of(twice)
    actions = store.read_stream(f"subscription-{name}")
    assert {(deed.type, deed.actor, deed.reason) for deed in actions} == {
        ("subscription.replayed", f"staff:{person.pk}", "Address corrected")
    }
    assert "Address corrected" in text_of(client.get(at("subscription", name)))
    assert client.get(parked_at(mailer, stream))["Location"] == at("subscription", name)


def test_event_is_skipped_only_with_a_reason_and_the_rest_stays_parked(mailer: Mailer) -> None:
    stream, name, admin = mailer.park(2), mailer.subscription.name, signed_in("admin")
    position = parked.parked(name)[0].position
    form = {"stream": stream, "position": position}
    refused = admin.post(at("skip", name), form | {"reason": " "}, follow=True)
    assert "Enter a reason for skipping this event." in text_of(refused)
    assert parked.parked(name)[0].position == position
    done = text_of(admin.post(at("skip", name), form | {"reason": "A test account"}, follow=True))
    assert f"Event {position} was skipped" in done
    assert "No longer blocked" in done
    twice = admin.post(at("skip", name), form | {"reason": "A test account"}, follow=True)
    assert "This event is no longer parked: it was replayed or skipped." in text_of(twice)
    (skipped,) = store.read_stream(f"subscription-{name}")
    assert (skipped.type, skipped.reason) == ("subscription.skipped", "A test account")


def test_several_streams_are_replayed_together_with_one_result_each(mailer: Mailer) -> None:
    streams, name, client = [mailer.park() for _ in range(3)], mailer.subscription.name, signed_in("manager")
    assert "Select at least one stream." in text_of(client.post(at("replay", name), follow=True))
    mailer.bad = {streams[0]}
    chosen = client.post(at("replay", name), {"stream": streams[1:2], "which": "chosen"}, follow=True)
    assert "1 stream was replayed." in text_of(chosen)
    every = text_of(client.post(at("replay", name), {"which": "all"}, follow=True))
    assert "1 stream was replayed." in every
    assert "1 stream failed again." in every
    assert [one.stream for one in parked.parked(name)] == streams[:1]


def test_subscription_of_another_release_is_shown_and_cannot_be_replayed(mailer: Mailer) -> None:
    admin = signed_in("admin")
    store.query("insert into events_parked (subscription, stream, position) values ('gone', 'user-1', 1) returning 1")
    store.query("insert into events_checkpoint (name, epoch) select 'gone', epoch from events_epoch returning 1")
    assert "This release has no subscription of this name" in text_of(admin.get(at("subscription", "gone")))
    for address in (at("replay", "gone"), at("skip", "gone")):
        assert admin.post(address, {"stream": "user-1", "position": "1", "reason": "x"}).status_code == 404
    for address in (
        at("subscription", "never"),
        f"{at('parked', 'never')}?stream=x",
        at("parked", mailer.subscription.name),
    ):
        assert admin.get(address).status_code == 404


# -- the head -------------------------------------------------------------------------------------------------------


def test_head_page_describes_the_holder_without_the_values_it_wrote(other: psycopg.Connection) -> None:
    client = signed_in("manager")
    assert "All stored events are readable" in text_of(client.get(at("head")))
    other.execute(
        f"""select o_position from events_append_one('user-{new_id()}', null, 'user.updated', 1::smallint,
            '{{"first_name": "Very secret"}}', '{new_id()}', 'system', null, null, null, '{{}}')"""
    )
    page = client.get(at("head"))
    shown = text_of(page)
    assert "nightly import" in shown
    assert "Idle in a transaction that has stored events" in shown
    assert "1 position is assigned but not readable yet" in shown
    assert "events_append_one(…" in shown
    assert "secret" not in shown
    assert page.context["bar"].held > 0
    store.append(f"user-{new_id()}", [UserUpdated(plan="free")])
    assert client.get(at("head")).context["held"] == 2
    other.rollback()
    assert client.get(at("head")).context["held"] == 0


def test_each_way_to_hold_the_head_has_its_own_description() -> None:
    known = {"floor": 1, "user": "u", "address": None, "since": None, "query": None, "seconds": 3.0}
    sentences = [
        log_head.holder_row(head.Holder(**known, pid=pid, application="a", state=state, gid=gid, waits_for=waits))
        for pid, state, gid, waits in [
            (None, None, "import-1", []),
            (7, "active", None, [8, 9]),
            (7, None, None, []),
            (7, "idle in transaction", None, []),
            (7, "active", None, []),
        ]
    ]
    assert len({one.activity for one in sentences}) == len(sentences)
    assert "ROLLBACK PREPARED 'import-1'" in sentences[0].remedy
    assert "8, 9" in sentences[1].activity


def test_page_whose_query_takes_too_long_answers_503(
    other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_action, "STATEMENT_SECONDS", 0.2)
    client = signed_in("manager")
    other.execute("lock table events_checkpoint in access exclusive mode")
    slow = client.get(at("subscriptions"))
    assert slow.status_code == 503
    assert "This page took too long" in slow.content.decode()
    other.rollback()
    assert client.get(at("subscriptions")).status_code == 200


# -- rebuilds -------------------------------------------------------------------------------------------------------


def test_rebuild_is_requested_and_cancelled_on_the_page() -> None:
    admin = signed_in("admin")
    asked = text_of(admin.post(at("rebuild", "users"), {"how": "fresh"}, follow=True))
    assert "A worker will rebuild users." in asked
    assert "Waiting for a worker" in asked
    assert "The rebuild of users was stopped." in text_of(admin.post(at("cancel", "users"), follow=True))
    refused = text_of(admin.post(at("cancel", "users"), follow=True))
    assert "No rebuild of users can be stopped now." in refused
    assert admin.post(at("rebuild", "nothing")).status_code == 404
    request = store.read_stream("rebuild-users")[-2]
    assert (request.type, request.data["fresh"]) == ("rebuild.requested", True)


def test_rebuild_page_distinguishes_interrupted_from_silent() -> None:
    admin = signed_in("admin")
    store.query(
        """insert into events_rebuild (name, phase, position, target, pid, backend_start, updated_at)
           select name, 'building', 30, 120, pid, backend_start, now() - age from (values
             ('forms', interval '0', pg_backend_pid()), ('users', interval '5 minutes', pg_backend_pid()),
             ('settings', interval '0', null)) w(name, age, session)
           left join pg_stat_activity on pid = session returning 1"""
    )
    try:
        states = {one.table.name: (one.table.state, one.done) for one in admin.get(at("rebuilds")).context["tables"]}
        page = text_of(admin.get(at("rebuilds")))
        again = text_of(admin.post(at("rebuild", "users"), {"how": "fresh"}, follow=True))
        relieved = text_of(admin.post(at("rebuild", "users"), {"how": "take_over"}, follow=True))
    finally:
        store.execute("delete from events_rebuild")
    assert "is being rebuilt" in again
    assert "A worker will rebuild users." in relieved
    assert store.read_stream("rebuild-users")[-1].data["take_over"] is True
    assert (states["forms"], states["users"]) == (("running", 25), ("silent", 25))
    assert states["settings"] == ("interrupted", 25)
    for word in ("Take over", "Resume", "Start over", "Reading the log", "The process that built it has ended"):
        assert word in page, word


def test_rebuild_whose_worker_was_lost_says_that_it_is_continued_and_can_be_stopped() -> None:
    admin = signed_in("admin")
    admin.post(at("rebuild", "users"))
    store.execute("insert into events_rebuild (name, phase, position, target) values ('users', 'building', 30, 120)")
    try:
        lost = text_of(admin.get(at("rebuilds")))
        store.execute("update events_rebuild set error = 'disk full'")
        failed = text_of(admin.get(at("rebuilds")))
        store.execute("update events_rebuild set error = null")
        admin.post(at("cancel", "users"))
        stopped = text_of(admin.get(at("rebuilds")))
    finally:
        store.execute("delete from events_rebuild")
    sentence = "Another one continues it within two minutes"
    assert (sentence in lost, sentence in failed, sentence in stopped) == (True, False, False)
    assert "disk full" in failed


def test_head_page_distinguishes_a_requested_check_from_a_running_one() -> None:
    admin = signed_in("admin")
    assert "waiting for a worker" in text_of(admin.post(at("verify"), follow=True))
    with psycopg.connect(**health.parameters()) as worker:
        worker.execute(jobs.TRY_VERIFYING)
        assert "a worker is reading the whole log" in text_of(admin.get(at("head")))
    store.append(jobs.VERIFICATION, [jobs.VerificationFailed(error="ZeroDivisionError")])
    failed = text_of(admin.get(at("head")))
    assert "Check failed" in failed
    assert "ZeroDivisionError" in failed


# -- events ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def story() -> dict[str, Any]:
    """Creates a user with two versions and e-mail addresses that some role must not see."""
    key = factories.user(email="before@hidden.example.org", first_name="Ada")
    factories.update(key, email="after@hidden.example.org", first_name="Augusta")
    created, updated = store.read_stream(f"user-{key}")
    return {"key": key, "created": created, "updated": updated}


def test_event_page_shows_changes_and_links(story: dict[str, Any]) -> None:
    manager = signed_in("manager")
    page = text_of(manager.get(reverse("admin:events_storedevent_change", args=[story["updated"].position])))
    for part in ("<del>Ada</del>", "<ins>Augusta</ins>", "<del>before@", "<ins>after@"):
        assert part in page, part
    for view in ("change", "history"):
        assert reverse(f"admin:backoffice_user_{view}", args=[story["key"]]) in page
    assert reverse("admin:events_storedevent_change", args=[story["created"].position]) in page


@pytest.mark.parametrize("address", ["list", "event", "first", "request"])
def test_hidden_fields_appear_nowhere_in_the_event_browser(
    story: dict[str, Any], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dpo, event = signed_in("dpo"), story["updated"]
    where = {
        "list": reverse(LOG) + f"?stream={event.stream}",
        "event": reverse("admin:events_storedevent_change", args=[event.position]),
        "first": reverse("admin:events_storedevent_change", args=[story["created"].position]),
        "request": reverse(LOG) + f"?correlation={event.correlation_id}",
    }[address]
    assert "hidden.example.org" in text_of(dpo.get(where))
    factories.hide(monkeypatch, "dpo", "user", "email")
    seen = text_of(dpo.get(where))
    assert "hidden.example.org" not in seen
    assert "Augusta" in seen or address in {"first", "request"}


def test_event_page_shows_the_effects_of_its_request_as_a_tree() -> None:
    queue = [
        {
            "seq": number,
            "id": str(new_id()),
            "type": "user.create",
            "key": str(new_id()),
            "data": {"email": api_client.email(), "last_name": str(number)},
        }
        for number in range(2)
    ]
    sent = api_client.Caller(api_client.staff("manager")).post("sync/", {"client_id": "laptop", "mutations": queue})
    last = sent.json()["results"][1]["position"]
    page = signed_in("manager").get(reverse("admin:events_storedevent_change", args=[last]))
    tree = page.context["caused"]
    assert (tree.count, tree.more, tree.nearby) == (2, False, False)
    assert [len(command.children) for command in tree.roots] == [1, 1]
    assert [child.here for command in tree.roots for child in command.children] == [False, True]
    assert "All events of this request" in text_of(page)


def test_live_feed_applies_the_filters_and_the_last_day_is_included(story: dict[str, Any]) -> None:
    manager, event = signed_in("manager"), story["updated"]
    day = f"{event.recorded_at:%Y-%m-%d}"
    page = manager.get(reverse(LOG), {"type": "user.*", "since": day, "until": day, "stream": event.stream})
    assert [row.event.position for row in page.context["rows"]] == [event.position, story["created"].position]
    shown = text_of(page)
    assert 'data-type="user.*"' in shown
    assert f'data-stream="{event.stream}"' in shown
    assert 'data-topics="users forms submissions settings rules silences"' in shown


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_page_renders_in_both_languages(language: str, mailer: Mailer, story: dict[str, Any]) -> None:
    client, stream = signed_in("admin"), mailer.park(2)
    client.cookies["django_language"] = language
    event = reverse("admin:events_storedevent_change", args=[story["updated"].position])
    pages = [at("subscriptions"), at("subscription", mailer.subscription.name), parked_at(mailer, stream), at("head")]
    for page in [*pages, at("rebuilds"), event, reverse(LOG)]:
        shown = text_of(client.get(page))
        assert f'<html lang="{language}"' in shown
        assert ("Abonnements" in shown) == (language == "fr")
