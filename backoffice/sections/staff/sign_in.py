"""Signing in: how often it may be tried, from where, and which events record it.

An attempt is judged before the password is hashed, by budgets in the database (`sign_in_take`), so that guessing costs
the guesser's time and not ours:

    one browser that has signed in to this account before has a budget of its own (a signed cookie names it), until the
    password is changed: whoever took the cookie with an old password guesses like anybody else
    anybody else draws on the account's budget and on that of their address

A stranger can empty the budgets of an account and of an address, but not that of the owner's own browser: nobody is
locked out by somebody else. A name that is no account is limited the same way, so that limits do not tell which exist.
A success gives its token back, one, and clears nothing.

Addresses: the log keeps that of a successful sign-in (in the event's metadata, as of every act), failed ones are only
counted there and named in the process log, which its operator deletes. Budgets know keyed digests.
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
    """`burst` attempts at once, one more every `seconds`."""

    seconds: float
    burst: int


ACCOUNT: Final = Budget(120.0, 10)
ADDRESS: Final = Budget(10.0, 30)
DEVICE: Final = Budget(30.0, 10)

TAKE: Final = "select o_wait from sign_in_take(%s::text[], %s::float[], %s::int[])"
# Locked in the order in which attempts take them, so that none waits for one that waits for it.
GIVE_BACK: Final = """
with given(key, every) as (select * from unnest(%s::text[], %s::float[])),
     held as (select b.key from sign_in_budgets b join given using (key) order by b.key for update of b)
update sign_in_budgets b set full_at = b.full_at - given.every * interval '1 second'
  from held join given using (key) where b.key = held.key
"""
FORGET_BUDGETS: Final = "delete from sign_in_budgets where full_at < clock_timestamp()"

# Names that are no account share this many budgets: the table stays small, and what was typed cannot be found again.
NAMES: Final = 2**16

COUNT_FAILURE: Final = """
insert into sign_in_failures as f (account, since, until, attempts, refused, addresses)
values (%(account)s, now(), now(), %(attempts)s, %(refused)s, array[%(address)s])
on conflict (account) do update set
    until = now(), attempts = f.attempts + excluded.attempts, refused = f.refused + excluded.refused,
    addresses = case when %(address)s = any(f.addresses) or cardinality(f.addresses) >= %(most)s then f.addresses
                     else f.addresses || excluded.addresses end
"""
# One row at a time, so that each event is stored with the end of its row.
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
    """Too many attempts; `seconds` until the next may be made."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = math.ceil(seconds)


# -- budgets --------------------------------------------------------------------------------------------------------


class Charge(NamedTuple):
    """The budgets that an attempt draws on."""

    keys: Sequence[str]
    budgets: Sequence[Budget]

    def take(self) -> None:
        """Take a token from each; raises `Limited` and takes none where one is empty."""
        every, bursts = [budget.seconds for budget in self.budgets], [budget.burst for budget in self.budgets]
        wait: float = store.query(TAKE, (list(self.keys), every, bursts))[0][0]
        if wait > 0:
            raise Limited(wait)

    def give_back(self) -> None:
        store.execute(GIVE_BACK, (list(self.keys), [budget.seconds for budget in self.budgets]))


def charge(request: HttpRequest, name: str, account: int | None) -> Charge:
    """The budgets that an attempt with this name draws on; `account` is the login's number when the name is one's."""
    device = known_device(request, account)
    if device is not None:
        return Charge([f"device:{_digest(device)}:{account}"], [DEVICE])
    who = f"account:{account}" if account is not None else f"name:{int(_digest(name), 16) % NAMES}"
    return Charge([who, f"address:{address_digest(request)}"], [ACCOUNT, ADDRESS])


def address_digest(request: HttpRequest) -> str:
    """Names the client's address, an IPv6 one by its network of 64 bits: that is what one customer has."""
    address = _address(request)
    if isinstance(address, ipaddress.IPv6Address):
        return _digest(str(ipaddress.ip_network((address, 64), strict=False)))
    return _digest(str(address))


def _address(request: HttpRequest) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The client's address; None where there is none (a Unix socket without a proxy's word)."""
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _digest(text: str) -> str:
    keyed = salted_hmac("backoffice.sections.staff.sign_in.budget", text, algorithm="sha256").digest()
    return hashlib.sha256(keyed).hexdigest()[:32]


# -- browsers that have signed in before ----------------------------------------------------------------------------


def known_device(request: HttpRequest, account: int | None) -> str | None:
    """The name of this browser when it has signed in to the account before, with the password that it has now."""
    device, accounts = _device(request)
    if account is None or account not in accounts:
        return None
    return device if secrets.compare_digest(accounts[account], _password_mark(account)) else None


def _device(request: HttpRequest) -> tuple[str, dict[int, str]]:
    """The browser's name, and the accounts it has signed in to, each with the mark of its password then."""
    try:
        found = signing.loads(request.COOKIES.get(DEVICE_COOKIE, ""), salt=DEVICE_SALT, max_age=DEVICE_AGE)
        return str(found["device"]), {int(account): str(mark) for account, mark in found["marks"]}
    except (signing.BadSignature, KeyError, TypeError, ValueError):
        return secrets.token_urlsafe(16), {}


def _password_mark(account: int) -> str:
    """Changes with the account's password, and says nothing of it."""
    stored = models.Staff.objects.filter(pk=account).values_list("password", flat=True).first()
    return _digest(f"password {account} {stored}")[:16]


def remember_device(request: HttpRequest, response: HttpResponse, account: int) -> None:
    """This browser has signed in to the account: its next attempts have a budget of their own."""
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
    """Count an attempt that failed, or was refused without a try; `tell_failures` brings it into the log."""
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


def tell_failures(account: int | None = None, *, older: timedelta = TOGETHER) -> int:
    """Bring counted failures into the log, one event an account; returns how many events that took."""
    wanted = {"account": None if account is None else str(account), "older": older}
    told = 0
    while True:
        with transaction.atomic():
            found = store.query(TAKE_FAILURES, wanted)
            if not found:
                return told
            of, since, until, attempts, refused, addresses = found[0]
            event = domain.StaffLoginFailed(
                attempts=attempts, refused=refused, addresses=addresses, since=since, until=until
            )
            store.append(types.stream_name(domain.CATEGORY, of or UNKNOWN), [event], store.ANY)
        told += 1


def note_login(request: HttpRequest, user: models.Staff | None, **_: Any) -> None:
    """Django's signal: tell who signed in, after the failures that went before. A session that code made for itself,
    without a request, is nobody's sign-in.
    """
    if not isinstance(user, models.Staff) or request.method is None:
        return
    if request.session.session_key is None:
        request.session.save()  # Django would do so at the end of the request
    session = auth.session_digest(str(request.session.session_key))
    known = known_device(request, user.pk) is not None
    name = user.get_full_name() or user.get_username()
    with context.acting(actor=f"staff:{user.pk}", actor_name=name), transaction.atomic():
        tell_failures(user.pk, older=timedelta())
        recording.tell(user, domain.StaffLoggedIn(session=session, known_device=known))


def note_logout(request: HttpRequest, user: models.Staff | None, **_: Any) -> None:
    """Django's signal comes before the session is flushed, so its key is still there."""
    if isinstance(user, models.Staff) and (key := request.session.session_key):
        recording.tell(user, domain.StaffLoggedOut(session=auth.session_digest(key)))


def forget_budgets() -> None:
    """Delete budgets that are full again."""
    store.execute(FORGET_BUDGETS)


def listen() -> None:
    """Called once from `ready()`; calling it again changes nothing."""
    signals.user_logged_in.connect(note_login, dispatch_uid="backoffice.sections.staff.sign_in.note_login")
    signals.user_logged_out.connect(note_logout, dispatch_uid="backoffice.sections.staff.sign_in.note_logout")
