"""Sign-in: limits of attempts by account and address, and the events that record attempts.

Budgets in the database (`sign_in_take`) judge an attempt before the password is hashed, so that guessing costs the
attacker's time and not the server's:

* A browser that has signed in to the account before has a budget of its own, named by a signed cookie, until the
  password changes. A stolen cookie with an old password gives no advantage.
* All others use the budgets of the account and of their address.

A stranger can exhaust the budgets of an account and of an address, but not that of the owner's own browser: nobody
can lock out somebody else. Names without an account are limited the same way, so that limits do not reveal which
accounts exist. A successful sign-in returns its own token and resets nothing else.
Addresses: the log stores the address of a successful sign-in in the event's metadata, as for every action. Failed
attempts are only counted there; their addresses are in the process log, which the operator deletes. Budgets contain
keyed digests.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.contrib.auth import signals
from django.core import signing
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.crypto import salted_hmac

from backoffice import models
from backoffice.sections.staff import domain, recording
from events import context, store, types
from realtime import auth

log = logging.getLogger(__name__)


class Budget(NamedTuple):
    """`burst` attempts at once, then one more every `seconds`."""

    seconds: float
    burst: int


ACCOUNT: Final = Budget(120.0, 10)
ADDRESS: Final = Budget(10.0, 30)
DEVICE: Final = Budget(30.0, 10)

TAKE: Final = "select o_wait from sign_in_take(%s::text[], %s::float[], %s::int[])"
# Locks in the order in which attempts take their budgets, which prevents deadlocks.
GIVE_BACK: Final = """
with given(key, every) as (select * from unnest(%s::text[], %s::float[])),
     held as (select b.key from sign_in_budgets b join given using (key) order by b.key for update of b)
update sign_in_budgets b set full_at = b.full_at - given.every * interval '1 second'
  from held join given using (key) where b.key = held.key
"""
FORGET_BUDGETS: Final = "delete from sign_in_budgets where full_at < clock_timestamp()"

# Names without an account share this many budgets: the table stays small, and typed text cannot be recovered.
NAMES: Final = 2**16

COUNT_FAILURE: Final = """
insert into sign_in_failures as f (account, since, until, attempts, refused, addresses)
values (%(account)s, now(), now(), %(attempts)s, %(refused)s, array[%(address)s])
on conflict (account) do update set
    until = now(), attempts = f.attempts + excluded.attempts, refused = f.refused + excluded.refused,
    addresses = case when %(address)s = any(f.addresses) or cardinality(f.addresses) >= %(most)s then f.addresses
                     else f.addresses || excluded.addresses end
"""
# One row at a time, so that each event is stored in the transaction that deletes its row.
TAKE_FAILURES: Final = """
delete from sign_in_failures where account = (
    select account from sign_in_failures
     where (%(account)s::text is null or account = %(account)s) and since <= now() - %(older)s::interval
     order by since limit 1 for update skip locked)
returning account, since, until, attempts, refused, cardinality(addresses)
"""
TOGETHER: Final = timedelta(minutes=5)
MOST_ADDRESSES: Final = 1000
UNKNOWN: Final = "unknown"

DEVICE_COOKIE: Final = "known_device"
DEVICE_SALT: Final = "backoffice.sections.staff.sign_in.device"
DEVICE_AGE: Final = timedelta(days=365)
DEVICE_ACCOUNTS: Final = 8


class Limited(Exception):
    """Too many attempts; the next one is allowed in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = math.ceil(seconds)


# -- budgets --------------------------------------------------------------------------------------------------------


class Charge(NamedTuple):
    """The budgets that an attempt uses."""

    keys: Sequence[str]
    budgets: Sequence[Budget]

    def take(self) -> None:
        """Takes one token from each budget; raises `Limited` and takes none if one is empty."""
        every, bursts = [budget.seconds for budget in self.budgets], [budget.burst for budget in self.budgets]
        wait: float = store.query(TAKE, (list(self.keys), every, bursts))[0][0]
        if wait > 0:
            raise Limited(wait)

    def return_tokens(self) -> None:
        store.execute(GIVE_BACK, (list(self.keys), [budget.seconds for budget in self.budgets]))


def charge(request: HttpRequest, name: str, account: int | None) -> Charge:
    """Returns the budgets for an attempt with this name; `account` is the login's number if the name exists."""
    device = known_device(request, account)
    if device is not None:
        return Charge([f"device:{_digest(device)}:{account}"], [DEVICE])
    who = f"account:{account}" if account is not None else f"name:{int(_digest(name), 16) % NAMES}"
    return Charge([who, f"address:{address_digest(request)}"], [ACCOUNT, ADDRESS])


def address_digest(request: HttpRequest) -> str:
    """Returns a digest of the client's address; IPv6 by its network of 64 bits, which one customer owns."""
    address = _address(request)
    if isinstance(address, ipaddress.IPv6Address):
        return _digest(str(ipaddress.ip_network((address, 64), strict=False)))
    return _digest(str(address))


def _address(request: HttpRequest) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns the client's address; None without one (a Unix socket whose proxy sends no address)."""
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _digest(text: str) -> str:
    keyed = salted_hmac("backoffice.sections.staff.sign_in.budget", text, algorithm="sha256").digest()
    return hashlib.sha256(keyed).hexdigest()[:32]


# -- known browsers ---------------------------------------------------------------------------------------------------


def known_device(request: HttpRequest, account: int | None) -> str | None:
    """Returns this browser's name if it has signed in to the account with its current password."""
    device, accounts = _device(request)
    if account is None or account not in accounts:
        return None
    return device if secrets.compare_digest(accounts[account], _password_mark(account)) else None


def _device(request: HttpRequest) -> tuple[str, dict[int, str]]:
    """Returns the browser's name, and the accounts it has signed in to with their password marks at that time.

    Without a valid cookie the name is new and there are no accounts.
    """
    try:
        found = signing.loads(request.COOKIES.get(DEVICE_COOKIE, ""), salt=DEVICE_SALT, max_age=DEVICE_AGE)
        return str(found["device"]), {int(account): str(mark) for account, mark in found["marks"]}
    except (signing.BadSignature, KeyError, TypeError, ValueError):
        return secrets.token_urlsafe(16), {}


def _password_mark(account: int) -> str:
    """Returns a value that changes with the account's password and reveals nothing about it."""
    stored = models.Staff.objects.filter(pk=account).values_list("password", flat=True).first()
    return _digest(f"password {account} {stored}")[:16]


def remember_device(request: HttpRequest, response: HttpResponse, account: int) -> None:
    """Remembers that this browser has signed in to the account, so that its attempts have a budget of their own."""
    device, accounts = _device(request)
    kept = [(account, _password_mark(account)), *((pk, mark) for pk, mark in accounts.items() if pk != account)]
    response.set_cookie(
        DEVICE_COOKIE,
        signing.dumps({"device": device, "marks": kept[:DEVICE_ACCOUNTS]}, salt=DEVICE_SALT),
        max_age=DEVICE_AGE,
        path=reverse("admin:login"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


# -- the log --------------------------------------------------------------------------------------------------------


def count_failure(request: HttpRequest, account: int | None, *, refused: bool = False) -> None:
    """Counts an attempt that failed or was refused; `record_failures` writes the counts to the log."""
    known = "" if account is None else str(account)
    counted = {
        "account": known,
        "attempts": int(not refused),
        "refused": int(refused),
        "address": address_digest(request),
        "most": MOST_ADDRESSES,
    }
    store.execute(COUNT_FAILURE, counted)
    what = "refused" if refused else "failed"
    log.warning("sign-in %s: account %s from %s", what, known or UNKNOWN, _address(request) or "an unknown address")


def record_failures(account: int | None = None, *, older: timedelta = TOGETHER) -> int:
    """Writes counted failures to the log, one event per account; returns the number of events."""
    wanted = {"account": None if account is None else str(account), "older": older}
    count = 0
    while True:
        with transaction.atomic():
            found = store.query(TAKE_FAILURES, wanted)
            if not found:
                return count
            of, since, until, attempts, refused, addresses = found[0]
            event = domain.StaffLoginFailed(
                attempts=attempts, refused=refused, addresses=addresses, since=since, until=until
            )
            store.append(types.stream_name(domain.CATEGORY, of or UNKNOWN), [event], store.ANY)
        count += 1


def record_login(request: HttpRequest, user: models.Staff | None, **_: Any) -> None:
    """Receiver of Django's signal: records the sign-in, after the failures before it.

    A session that code creates without a request is not recorded.
    """
    if not isinstance(user, models.Staff) or request.method is None:
        return
    if request.session.session_key is None:
        request.session.save()  # Django would do so at the end of the request
    session = auth.session_digest(str(request.session.session_key))
    known = known_device(request, user.pk) is not None
    name = user.get_full_name() or user.get_username()
    with context.acting(actor=f"staff:{user.pk}", actor_name=name), transaction.atomic():
        record_failures(user.pk, older=timedelta())
        recording.record(user, domain.StaffLoggedIn(session=session, known_device=known))


def record_logout(request: HttpRequest, user: models.Staff | None, **_: Any) -> None:
    """Receiver of Django's signal, which comes before the session is flushed, so its key is still there."""
    if isinstance(user, models.Staff) and (key := request.session.session_key):
        recording.record(user, domain.StaffLoggedOut(session=auth.session_digest(key)))


def forget_budgets() -> None:
    """Deletes budgets that are full again."""
    store.execute(FORGET_BUDGETS)


def connect_signals() -> None:
    """Connects the receivers; `ready()` calls it, and calling it again changes nothing."""
    signals.user_logged_in.connect(record_login, dispatch_uid="backoffice.sections.staff.sign_in.record_login")
    signals.user_logged_out.connect(record_logout, dispatch_uid="backoffice.sections.staff.sign_in.record_logout")
