"""Sign-in: limited before hashing, known browsers are not locked out by strangers, every attempt is recorded."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import hashers
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backoffice.models import SignInBudget, SignInFailure, Staff
from backoffice.sections.staff import passwords, tasks
from backoffice.sections.staff import sign_in as signin
from events import store
from realtime import auth

PASSWORD = "a long enough pass phrase"
LOGIN = "/admin/login/"


class Counting(passwords.Hasher):
    """The project's hasher with little work, which counts its calls."""

    iterations = 1
    hashes = 0
    now = most = held = 0
    lock = threading.Lock()
    go = threading.Event()

    def _iterate(self) -> None:
        kind = type(self)
        with kind.lock:
            kind.hashes += 1
            kind.now += 1
            kind.most = max(kind.most, kind.now)
            kind.held += connection.connection is not None and not connection.in_atomic_block
        kind.go.wait(30)
        with kind.lock:
            kind.now -= 1

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with passwords.hashing_slot():
            self._iterate()
            return hashers.PBKDF2PasswordHasher.encode(self, password, salt, iterations)


@pytest.fixture(autouse=True)
def counting(settings: Any) -> Iterator[type[Counting]]:
    settings.PASSWORD_HASHERS = [f"{__name__}.Counting"]
    Counting.hashes = Counting.now = Counting.most = Counting.held = 0
    Counting.go.set()
    yield Counting
    Counting.go.set()


@pytest.fixture
def agent(db: None) -> Staff:
    return Staff.objects.create_user("agent", password=PASSWORD, role="agent", is_staff=True)


def attempt(name: str, password: str, client: Client | None = None, address: str = "203.0.113.9") -> Any:
    fields = {"username": name, "password": password, "next": "/admin/"}
    return (client or Client()).post(LOGIN, fields, REMOTE_ADDR=address)


def recorded(key: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in store.read_stream(f"staff-{key}")]


# -- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agent", "nobody at all"])
def test_guesses_at_an_account_are_refused_before_hashing(agent: Staff, counting: type[Counting], name: str) -> None:
    """Names without an account behave the same, so that limits do not reveal which exist."""
    counting.hashes = 0
    answers = [attempt(name, "wrong", address=f"203.0.113.{number}") for number in range(30)]
    tried = signin.ACCOUNT.burst
    assert [answer.status_code for answer in answers] == [200] * tried + [429] * (30 - tried)
    assert counting.hashes == tried
    assert 0 < int(answers[-1]["Retry-After"]) <= signin.ACCOUNT.seconds
    assert "Try again in" in answers[-1].content.decode()
    assert "no-store" in answers[-1]["Cache-Control"]


def test_guesses_from_an_address_are_refused_for_any_name(agent: Staff, counting: type[Counting]) -> None:
    counting.hashes = 0
    answers = [attempt(f"name {number}", "wrong").status_code for number in range(signin.ADDRESS.burst + 5)]
    assert answers == [200] * signin.ADDRESS.burst + [429] * 5
    assert counting.hashes == signin.ADDRESS.burst
    assert attempt("agent", PASSWORD).status_code == 429, "a success is not tried either"
    assert attempt("agent", PASSWORD, address="203.0.113.10").status_code == 302


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.9", "203.0.113.9", True),
        ("203.0.113.8", "203.0.113.9", False),
    ],
)
def test_ipv6_addresses_are_limited_by_network(rf: Any, one: str, other: str, same: bool) -> None:
    digests = {signin.address_digest(rf.get("/", REMOTE_ADDR=address)) for address in (one, other)}
    assert len(digests) == (1 if same else 2)


def test_owner_is_not_locked_out_by_strangers(agent: Staff) -> None:
    """A browser that has signed in before is admitted although the budgets of account and address are empty."""
    own = Client()
    assert attempt("agent", PASSWORD, own).status_code == 302
    own.post(reverse("admin:logout"))
    while attempt("agent", "wrong").status_code == 200:
        pass
    for number in range(signin.ADDRESS.burst):
        attempt(f"name {number}", "wrong")
    assert attempt("agent", PASSWORD).status_code == 429
    assert attempt("agent", PASSWORD, own).status_code == 302


def test_known_browser_is_limited_and_only_for_its_own_accounts(agent: Staff, counting: type[Counting]) -> None:
    Staff.objects.create_user("other", password=PASSWORD, role="agent", is_staff=True)
    own = Client()
    attempt("agent", PASSWORD, own)
    counting.hashes = 0
    answers = [attempt("agent", "wrong", own).status_code for _ in range(signin.DEVICE.burst + 3)]
    assert answers == [200] * signin.DEVICE.burst + [429] * 3
    answers = [attempt("other", "wrong", own).status_code for _ in range(signin.ACCOUNT.burst + 1)]
    assert answers[-1] == 429
    assert not SignInBudget.objects.filter(key__contains="agent").exists()


@pytest.mark.parametrize("cookie", ["", "forged", "e30:1abc:xyz"])
def test_forged_device_cookie_has_no_budget(agent: Staff, rf: Any, cookie: str) -> None:
    request = rf.post(LOGIN)
    request.COOKIES[signin.DEVICE_COOKIE] = cookie
    assert signin.known_device(request, agent.pk) is None


def test_successful_sign_in_returns_only_its_own_token(agent: Staff) -> None:
    for _ in range(signin.ACCOUNT.burst - 1):
        attempt("agent", "wrong")
    for _ in range(3):
        assert attempt("agent", PASSWORD).status_code == 302
    assert attempt("agent", "wrong").status_code == 200
    assert attempt("agent", "wrong").status_code == 429


def test_limits_apply_without_valkey(agent: Staff, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    answers = [attempt("agent", "wrong").status_code for _ in range(signin.ACCOUNT.burst + 1)]
    assert answers[-1] == 429


def test_full_budgets_are_deleted(agent: Staff) -> None:
    old = timezone.now() - timezone.timedelta(seconds=1)
    SignInBudget.objects.bulk_create([SignInBudget(key=f"old:{number}", full_at=old) for number in range(50)])
    attempt("agent", "wrong")
    assert SignInBudget.objects.filter(key__startswith="old:").count() == 30
    tasks.record_failed_sign_ins()
    assert not SignInBudget.objects.filter(key__startswith="old:").exists()


@pytest.mark.django_db(transaction=True)
def test_attempts_on_the_same_budgets_do_not_deadlock() -> None:
    budget = signin.Budget(0.001, 1_000_000)
    start = threading.Barrier(6)

    def draw(number: int) -> None:
        keys = ["a", "b", "c"] if number % 2 else ["c", "b", "a"]
        charge = signin.Charge(keys, [budget] * 3)
        try:
            start.wait(60)
            for _ in range(40):
                charge.take()
                charge.return_tokens()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(draw, range(6)))
    assert SignInBudget.objects.filter(full_at__gt=timezone.now()).count() == 0


def test_typed_names_and_addresses_are_not_stored(agent: Staff) -> None:
    attempt("hunter2 typed in the wrong field", "x")
    attempt("agent", "wrong")
    kept = repr([*SignInBudget.objects.values_list(), *SignInFailure.objects.values_list()])
    assert "hunter2" not in kept
    assert "203.0.113" not in kept


def test_guesses_of_the_old_password_are_limited(agent: Staff, counting: type[Counting]) -> None:
    client = Client()
    client.force_login(agent)
    new = "another long pass phrase"
    fields = {"old_password": "wrong", "new_password1": new, "new_password2": new}
    counting.hashes = 0
    for _ in range(signin.DEVICE.burst + 5):
        answer = client.post(reverse("admin:password_change"), fields)
    assert counting.hashes == signin.DEVICE.burst
    assert "Too many attempts" in answer.content.decode()


def test_hashing_costs_the_same_for_known_and_unknown_names(agent: Staff, counting: type[Counting]) -> None:
    Staff.objects.create_user("gone", password=PASSWORD, role="agent", is_staff=True, is_active=False)
    Staff.objects.create_user("customer", password=PASSWORD)
    Staff.objects.create_user("no password", role="agent", is_staff=True)
    costs = {}
    for name in ("agent", "gone", "customer", "no password", "nobody"):
        counting.hashes = 0
        answer = attempt(name, "wrong")
        costs[name] = (counting.hashes, answer.content.decode().count("Please enter the correct"))
    assert set(costs.values()) == {(1, 1)}


# -- hashing --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_many_sign_ins_hash_two_at_a_time_and_hold_no_connection(agent: Staff, counting: type[Counting]) -> None:
    """Of thirty sign-ins at once none ends with an error: the excess ones are answered with 503 or 429."""
    counting.hashes = counting.most = counting.held = 0
    counting.go.clear()
    people = 30
    arrived = threading.Barrier(people + 1)

    def sign_in(number: int) -> int:
        try:
            arrived.wait(60)
            return int(attempt("agent", PASSWORD, address=f"203.0.113.{number}").status_code)
        finally:
            connections.close_all()

    Staff.objects.filter(pk=agent.pk).update(last_login=None)
    with ThreadPoolExecutor(people) as pool:
        running = [pool.submit(sign_in, number) for number in range(people)]
        arrived.wait(60)
        admitted = passwords.AT_ONCE + passwords.MAX_WAITING
        while sum(one.done() for one in running) < people - admitted and not all(one.done() for one in running):
            threading.Event().wait(0.01)
        assert counting.now <= passwords.AT_ONCE
        counting.go.set()
        answers = sorted(one.result() for one in running)
    assert counting.most <= passwords.AT_ONCE
    assert counting.held == 0
    assert set(answers) <= {302, 429, 503}
    assert 500 not in answers
    assert counting.hashes == answers.count(302)


@pytest.mark.django_db(transaction=True)
def test_attempt_without_a_free_slot_gets_retry_after_and_costs_no_token(
    agent: Staff, counting: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_admitted", threading.BoundedSemaphore(1))
    counting.hashes = 0
    with passwords.hashing_slot():
        answer = attempt("agent", PASSWORD)
        assert (answer.status_code, answer["Retry-After"]) == (503, str(passwords.RETRY_AFTER))
        assert "Too many people are signing in" in answer.content.decode()
    assert counting.hashes == 0
    assert not SignInFailure.objects.exists()
    for _ in range(signin.ACCOUNT.burst):
        assert attempt("agent", "wrong").status_code == 200, "its token was given back"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", ["own password", "somebody's password", "a new login"])
def test_no_page_holds_a_connection_while_it_hashes(counting: type[Counting], page: str) -> None:
    boss = Staff.objects.create_user("boss", password=PASSWORD, role="admin", is_staff=True, is_superuser=True)
    client, new = Client(), "another long pass phrase"
    client.force_login(boss)
    address, fields = {
        "own password": (
            reverse("admin:password_change"),
            {"old_password": PASSWORD, "new_password1": new, "new_password2": new},
        ),
        "somebody's password": (
            reverse("admin:auth_user_password_change", args=[boss.pk]),
            {"password1": new, "password2": new, "usable_password": "true"},
        ),
        "a new login": (
            reverse("admin:backoffice_staff_add"),
            {"username": "new", "usable_password": "true", "password1": new, "password2": new, "role": "viewer"},
        ),
    }[page]
    counting.hashes = 0
    held: list[bool] = []
    original = Counting._iterate

    def looking(self: Counting) -> None:
        held.append(connection.connection is not None)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counting, "_iterate", looking)
        assert client.post(address, fields).status_code == 302
    assert counting.hashes == (2 if page == "own password" else 1)
    assert not any(held)
    assert Staff.objects.get(username="new" if page == "a new login" else "boss").check_password(new)


@pytest.mark.django_db(transaction=True)
def test_page_without_a_free_slot_to_hash_answers_503(
    counting: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    boss = Staff.objects.create_user("boss", password=PASSWORD, role="admin", is_staff=True, is_superuser=True)
    client, new = Client(), "another long pass phrase"
    client.force_login(boss)
    monkeypatch.setattr(passwords, "_admitted", threading.BoundedSemaphore(1))
    with passwords.hashing_slot():
        answer = client.post(
            reverse("admin:auth_user_password_change", args=[boss.pk]),
            {"password1": new, "password2": new, "usable_password": "true"},
        )
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "Nothing was changed" in answer.content.decode()


# -- the log --------------------------------------------------------------------------------------------------------


def test_sign_in_is_recorded_with_name_and_address_without_the_session_key(agent: Staff) -> None:
    client = Client()
    attempt("agent", PASSWORD, client)
    (event,) = list(store.read_stream(f"staff-{agent.pk}"))
    key = client.session.session_key
    assert key
    assert (event.type, event.data) == ("staff.logged_in", {"session": auth.session_digest(key)})
    assert (event.actor, event.metadata["ip"]) == (f"staff:{agent.pk}", "203.0.113.9")
    client.post(reverse("admin:logout"))
    attempt("agent", PASSWORD, client)
    assert [kind for kind, _ in recorded(agent.pk)] == ["staff.logged_in", "staff.logged_out", "staff.logged_in"]
    assert recorded(agent.pk)[-1][1]["known_device"] is True


def test_session_created_by_code_is_not_recorded(agent: Staff) -> None:
    Client().force_login(agent)
    assert recorded(agent.pk) == []


def test_failures_are_recorded_together_after_five_minutes(agent: Staff) -> None:
    for number in range(signin.ACCOUNT.burst + 5):
        attempt("agent", "wrong", address=f"203.0.113.{number % 3}")
    attempt("hunter2", "x")
    assert tasks.record_failed_sign_ins() == 0, "not yet"
    SignInFailure.objects.update(since=timezone.now() - 2 * signin.TOGETHER)
    assert tasks.record_failed_sign_ins() == 2
    ((kind, data),) = recorded(agent.pk)
    assert kind == "staff.login_failed"
    assert (data["attempts"], data["refused"], data["addresses"]) == (signin.ACCOUNT.burst, 5, 3)
    ((kind, data),) = recorded("unknown")
    assert (kind, data["attempts"], data["refused"], data["addresses"]) == ("staff.login_failed", 1, 0, 1)
    assert tasks.record_failed_sign_ins() == 0
    assert "hunter2" not in repr(recorded("unknown"))


def test_failures_are_recorded_before_the_following_success(agent: Staff) -> None:
    attempt("agent", "wrong")
    attempt("agent", "wrong")
    attempt("agent", PASSWORD)
    assert [(kind, data.get("attempts")) for kind, data in recorded(agent.pk)] == [
        ("staff.login_failed", 2),
        ("staff.logged_in", None),
    ]


def test_failures_fit_one_row_for_any_number_of_addresses(
    agent: Staff, rf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signin, "MOST_ADDRESSES", 3)
    for number in range(9):
        signin.count_failure(rf.post(LOGIN, REMOTE_ADDR=f"203.0.113.{number}"), agent.pk)
    assert [len(addresses) for addresses in SignInFailure.objects.values_list("addresses", flat=True)] == [3]


# -- passwords ------------------------------------------------------------------------------------------------------


def commit() -> None:
    """Runs the deferred triggers, as a commit would."""
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
        cursor.execute("set constraints all deferred")


NEW = "another long pass phrase"


def by_command(agent: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt="": NEW)
    call_command("changepassword", "agent", stdout=io.StringIO())


def by_sql(agent: Staff, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("update staff set password = 'x' where id = %s", [agent.pk])


def by_script(agent: Staff, _: Any) -> None:
    agent.set_password(NEW)
    agent.save()


def by_page(agent: Staff, _: Any) -> None:
    client = Client()
    client.force_login(agent)
    fields = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert client.post(reverse("admin:password_change"), fields).status_code == 302


def taken_away(agent: Staff, _: Any) -> None:
    agent.set_unusable_password()
    agent.save()


def in_bulk(agent: Staff, _: Any) -> None:
    Staff.objects.filter(pk=agent.pk).update(password=hashers.make_password(NEW))


@pytest.mark.parametrize("way", [by_command, by_sql, by_script, by_page, taken_away, in_bulk])
def test_new_password_is_recorded_once_for_every_way(agent: Staff, way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    way(agent, monkeypatch)
    commit()
    assert recorded(agent.pk) == [("staff.password_changed", {})]
    (event,) = list(store.read_stream(f"staff-{agent.pk}"))
    assert event.actor.startswith("database:") is (way in (by_sql, in_bulk))
    assert (event.actor == "command:changepassword") is (way is by_command)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("update staff set role = 'viewer'", [("staff.role_changed", {"before": "agent", "after": "viewer"})]),
        (
            "update staff set is_superuser = true",
            [("staff.role_changed", {"before": "agent", "after": "agent", "is_superuser": True})],
        ),
        ("update staff set is_active = false", [("staff.deactivated", {})]),
        ("update staff set is_staff = false", [("staff.deactivated", {})]),
        ("delete from staff", [("staff.deactivated", {})]),
        ("update staff set last_login = now(), first_name = 'A'", []),
        ("update staff set password = password, role = role", []),
    ],
)
def test_change_by_sql_is_recorded(agent: Staff, statement: str, expected: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    commit()
    assert recorded(agent.pk) == expected


def test_login_reactivated_by_sql_is_recorded(agent: Staff) -> None:
    with connection.cursor() as cursor:
        cursor.execute("update staff set is_active = false")
        cursor.execute("update staff set is_active = true")
    commit()
    assert recorded(agent.pk) == [("staff.deactivated", {}), ("staff.reactivated", {})]


def test_rehashed_password_is_not_recorded(agent: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "iterations", 2)
    hashers.get_hashers.cache_clear()
    assert attempt("agent", PASSWORD).status_code == 302
    commit()
    assert [kind for kind, _ in recorded(agent.pk)] == ["staff.logged_in"]
    agent.refresh_from_db()
    assert agent.password.split("$")[1] == "2"


@pytest.mark.parametrize("password", ["password1234567", "FormEase2026!", "123456789012", "short"])
def test_guessable_password_is_refused_everywhere(agent: Staff, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boss = Staff.objects.create_user("boss", password=PASSWORD, role="admin", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(boss)
    own = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}
    both = {"password1": password, "password2": password, "usable_password": "true"}
    assert client.post(reverse("admin:password_change"), own).status_code == 200
    assert client.post(reverse("admin:auth_user_password_change", args=[agent.pk]), both).status_code == 200
    new = {**both, "username": "new", "role": "viewer"}
    assert client.post(reverse("admin:backoffice_staff_add"), new).status_code == 200
    monkeypatch.setattr("getpass.getpass", lambda prompt="": password)
    with pytest.raises(Exception, match="Aborting password change"):
        call_command("changepassword", "agent", stderr=io.StringIO(), stdout=io.StringIO())
    assert not Staff.objects.filter(username="new").exists()
    for login in (agent, boss):
        login.refresh_from_db()
        assert login.check_password(PASSWORD)
        assert recorded(login.pk) == []


# -- sign-in page -----------------------------------------------------------------------------------------------------


def test_every_url_of_the_sign_in_page_is_limited(agent: Staff) -> None:
    """The limit also applies to signed-in people and to URLs with a query string."""
    customer = Staff.objects.create_user("customer", password=PASSWORD)
    client = Client()
    client.force_login(customer)
    for _ in range(signin.ACCOUNT.burst):
        assert attempt("agent", "wrong", client).status_code == 200
    assert attempt("agent", PASSWORD, client).status_code == 429
    assert client.get(LOGIN).status_code == 200
    for path in ("/admin/", "/admin/backoffice/user/", "/admin/nowhere/"):
        assert client.get(path).status_code in (302, 404)
        assert client.post(path, {"username": "agent", "password": PASSWORD}).status_code in (302, 403, 404)
    assert SignInFailure.objects.get().refused == 1


def test_sign_in_page_is_translated_to_french(agent: Staff) -> None:
    for _ in range(signin.ACCOUNT.burst):
        attempt("agent", "wrong")
    answer = Client(headers={"Accept-Language": "fr"}).post(LOGIN, {"username": "agent", "password": "x"})
    assert answer.status_code == 429
    assert "Try again" not in answer.content.decode()


def test_browser_known_by_an_old_password_has_no_budget(agent: Staff, counting: type[Counting], rf: Any) -> None:
    """A stolen cookie gives no budget of its own once the password has changed."""
    own = Client()
    assert attempt("agent", PASSWORD, own).status_code == 302
    taken = rf.post(LOGIN)
    taken.COOKIES[signin.DEVICE_COOKIE] = own.cookies[signin.DEVICE_COOKIE].value
    assert signin.known_device(taken, agent.pk) is not None
    agent.set_password("another long pass phrase")
    agent.save()
    assert signin.known_device(taken, agent.pk) is None
    assert attempt("agent", "another long pass phrase", own).status_code == 302
    taken.COOKIES[signin.DEVICE_COOKIE] = own.cookies[signin.DEVICE_COOKIE].value
    assert signin.known_device(taken, agent.pk) is not None, "the owner's browser is known again"


def test_own_password_change_keeps_the_browser_known(agent: Staff, rf: Any) -> None:
    own = Client()
    assert attempt("agent", PASSWORD, own).status_code == 302
    new = "another long pass phrase"
    sent = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert own.post(reverse("admin:password_change"), sent).status_code == 302
    request = rf.post(LOGIN)
    request.COOKIES[signin.DEVICE_COOKIE] = own.cookies[signin.DEVICE_COOKIE].value
    assert signin.known_device(request, agent.pk) is not None
