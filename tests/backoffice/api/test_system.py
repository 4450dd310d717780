"""The operator API has the data, actions and rights of the operator pages, limited by scopes of a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backoffice import access
from backoffice.api import problems, records, views
from backoffice.api import shapes as api_shapes
from backoffice.sections.users.domain import UserUpdated
from events import errors, head, jobs, store
from events.subscriptions import checkpoints, parked, progress
from events.subscriptions import runner as subscriptions
from events.types import new_id
from metrics.monitoring import shapes
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem, program
from tests.backoffice.monitoring.test_operator_pages import Mailer, mailer  # noqa: F401 - the same subscription
from tests.events import effects

pytestmark = pytest.mark.django_db(transaction=True)

READS = ("system/subscriptions/", "system/subscriptions/{name}/parked/", "system/head/", "system/rebuilds/")


@pytest.fixture
def stream(mailer: Mailer) -> str:  # noqa: F811
    return mailer.park(2)


def actions(name: str, stream: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("replay", f"system/subscriptions/{name}/replay/", {"streams": [stream]}),
        ("skip", f"system/subscriptions/{name}/skip/", {"stream": stream, "position": 1, "reason": "x"}),
        ("verify", "system/head/verify/", {}),
        ("rebuild", "system/rebuilds/users/start/", {}),
        ("rebuild", "system/rebuilds/users/cancel/", {}),
    ]


@pytest.mark.parametrize("role", api_client.ROLES)
def test_role_decides_about_reads_and_actions(
    role: str,
    mailer: Mailer,  # noqa: F811
    stream: str,
) -> None:
    caller, name = api_client.signed_in(role), mailer.subscription.name
    for path in READS:
        response = caller.get(path.format(name=name))
        if access.role_may(role, "view", "system"):
            assert response.status_code == 200, response.content
        else:
            assert problem(response, 403, "forbidden")["missing"] == "system.view"
    before = parked.parked(name), store.version_of("rebuild-users"), store.version_of(jobs.VERIFICATION)
    for action, path, body in actions(name, stream):
        response = caller.post(path, body)
        if access.role_may(role, action, "system"):
            assert response.status_code in {200, 404}, response.content  # 404: nothing parked at position 1
        else:
            assert problem(response, 403, "forbidden")["missing"] == f"system.{action}"
    if not any(access.role_may(role, action, "system") for action, _, _ in actions(name, stream)):
        after = parked.parked(name), store.version_of("rebuild-users"), store.version_of(jobs.VERIFICATION)
        assert after == before


def test_key_needs_the_scope_and_its_owner_the_right(mailer: Mailer, stream: str) -> None:  # noqa: F811
    name = mailer.subscription.name
    for path in READS:
        assert program("system:read").get(path.format(name=name)).status_code == 200
        problem(program("events:read", "users:*").get(path.format(name=name)), 403, "missing_scope")
    for _, path, body in actions(name, stream):
        problem(program("system:read", role="admin").post(path, body), 403, "missing_scope")
        problem(program("*", role="viewer").post(path, body), 403, "forbidden")
    mended = program("system:write")
    mailer.bad.clear()
    answer = mended.post(f"system/subscriptions/{name}/replay/", {"reason": "mended"}).json()
    assert answer == {"results": [{"stream": stream, "handled": 2, "left": 0, "error": None}]}
    assert {event.actor.partition(":")[0] for event in store.read_stream(f"subscription-{name}")} == {"key"}


def test_answers_have_the_documented_shape(mailer: Mailer, stream: str) -> None:  # noqa: F811
    caller, name = api_client.signed_in("admin"), mailer.subscription.name
    effects.grow(2)
    shaped = {
        "system/subscriptions/": shapes.Checkpoints,
        f"system/subscriptions/{name}/parked/": shapes.ParkedStreams,
        "system/head/": shapes.LogHead,
        "system/rebuilds/": shapes.Rebuilds,
    }
    for path, shape in shaped.items():
        api_shapes.checked(shape, caller.get(path).json())
    found = caller.get("system/subscriptions/").json()
    mine = next(one for one in found["items"] if one["name"] == name)
    assert (mine["behind"], mine["parked"], mine["state"]) == (2, 1, "running" if mine["owner"] else "stopped")
    (aside,) = caller.get(f"system/subscriptions/{name}/parked/").json()["items"]
    assert (aside["stream"], aside["waiting"], aside["attempts"], aside["event"]) == (stream, 1, 1, "user.created")
    assert "no mail to" in aside["error"]
    assert "in handle" in aside["traceback"]
    problem(caller.get("system/subscriptions/nobody/parked/"), 404, "unknown_subscription")
    problem(caller.get("system/head/?deep=1"), 400, "unknown_parameter")


def test_errors_are_hidden_from_a_caller_with_hidden_fields(
    mailer: Mailer,  # noqa: F811
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, manager = mailer.subscription.name, api_client.signed_in("manager")
    factories.hide(monkeypatch, "manager", "submission", "answers")
    for response in (
        manager.get(f"system/subscriptions/{name}/parked/"),
        manager.post(f"system/subscriptions/{name}/replay/", {"streams": [stream]}),
    ):
        assert response.status_code == 200
        assert b"no mail to" not in response.content
    assert parked.parked(name)[0].attempts == 2


def test_skip_needs_a_reason_and_happens_once(mailer: Mailer, stream: str) -> None:  # noqa: F811
    name, admin = mailer.subscription.name, api_client.signed_in("admin")
    path, position = f"system/subscriptions/{name}/skip/", parked.parked(name)[0].position
    body = {"stream": stream, "position": position}
    for reason in ({}, {"reason": ""}, {"reason": "x" * 201}):
        assert "reason" in problem(admin.post(path, body | reason), 422, "invalid")["errors"]
    (left,) = admin.post(path, body | {"reason": "A test account"}).json()["items"]
    assert (left["waiting"], left["error"], left["position"] > position) == (0, None, True)
    problem(admin.post(path, body | {"reason": "A test account"}), 404, "not_parked")
    problem(admin.post(f"system/subscriptions/{name}/replay/", {"streams": ["user-1"]}), 404, "not_parked")


def test_rebuild_is_requested_and_cancelled() -> None:
    admin = api_client.signed_in("admin")
    asked = admin.post("system/rebuilds/users/start/", {"fresh": True, "reason": "moved columns"}).json()
    assert (asked["table"], asked["state"]) == ("users", "waits")
    assert store.read_stream("rebuild-users")[-1].reason == "moved columns"
    assert admin.post("system/rebuilds/users/cancel/", {}).json()["state"] != "waits"
    problem(admin.post("system/rebuilds/users/cancel/", {}), 409, "rebuild_refused")
    problem(admin.post("system/rebuilds/nothing/start/", {}), 404, "not_found")
    since = admin.post("system/head/verify/", {}).json()["checking"]
    assert since is not None


# -- consistent reads -------------------------------------------------------------------------------------------------


def test_consistent_reads_show_the_last_write() -> None:
    """Read tables are written in the command's own transaction, so a read without counters has nothing to wait for."""
    manager, key = api_client.signed_in("manager"), new_id()
    sent = manager.command("user.create", key, {"email": api_client.email(), "first_name": "Ada"}).json()
    stream = f"user-{key}"
    record = api_client.signed_in("admin").command("setting.set", "limits.uploads", {"value": 5}).json()
    assert manager.get("settings/limits.uploads/?consistent=1").json()["version"] == record["version"]
    assert manager.get(f"streams/{stream}/?consistent=1").json()["version"] == sent["version"]
    assert manager.get(f"streams/{stream}/state/?consistent=1").json()["state"]["first_name"] == "Ada"
    after = sent["position"] - 1
    assert manager.get(f"events/?after={after}&consistent=1").json()["items"][0]["stream"] == stream
    for path in ("users/", f"users/{key}/", f"streams/{stream}/", "events/"):
        found = problem(manager.get(f"{path}?consistent=yes"), 400, "invalid_parameter")
        assert found["parameter"] == "consistent"


@pytest.fixture
def fed() -> Iterator[subscriptions.Subscription]:
    wanted = effects.subscription(handle=lambda events: None)
    subscriptions.register(wanted)
    yield wanted
    del checkpoints._registered[wanted.name]


def test_consistent_read_waits_for_the_subscription(
    fed: subscriptions.Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = api_client.signed_in("manager")
    monkeypatch.setattr(records.RecordList, "fed_by", (fed.name,))
    subscriptions.acquire(fed, "a")
    reached = store.append(f"user-{factories.user()}", [UserUpdated(plan="premium")]).position
    assert manager.get("submissions/").status_code == 200  # without `consistent=1` no request waits
    monkeypatch.setattr(views, "CONSISTENT_SECONDS", 0.05)
    problem(manager.get("submissions/?consistent=1"), 504, "wait_timeout")
    monkeypatch.setattr(views, "CONSISTENT_SECONDS", 30.0)
    waiting = factories.Thread(lambda: manager.get("submissions/?consistent=1").status_code)
    effects.catch_up(fed)
    assert waiting.result() == 200
    assert progress.position(fed) >= reached == head.newest()


def test_timed_out_consistent_read_returns_a_problem_with_retry_after() -> None:
    found = problems.described(errors.TookTooLong())
    assert found is not None
    assert (found.status_code, found.problem, found.headers["Retry-After"]) == (503, "took_too_long", "5")
