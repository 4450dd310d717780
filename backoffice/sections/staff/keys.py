"""API keys: ``fe_<prefix>.<secret>``. The prefix finds the key; only a keyed hash of the secret is stored."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare, get_random_string, salted_hmac
from django.utils.translation import gettext as _

from backoffice import models, section
from backoffice.sections.staff import domain
from events import store, types

SALT: Final = "backoffice.api.keys"
ALPHABET: Final = "abcdefghijkmnopqrstuvwxyz23456789"
USED_EVERY: Final = timedelta(minutes=1)


class KeyRefused(Exception):
    """The key is refused; `code` gives the reason if its holder may know it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def all_scopes() -> tuple[str, ...]:
    """Returns all scopes that a key can have."""
    kinds = section.kinds()
    names = [*(kind.name for kind in kinds), *(name for one in section.sections() for name in one.scopes)]
    return (
        "*",
        *(f"{name}:{action}" for name in names for action in ("read", "write", "*")),
        *(f"{kind.name}:export" for kind in kinds if kind.export),
        "events:read",
        "ingest:write",
        *(f"system:{action}" for action in ("read", "write", "*")),
    )


def create(
    *, name: str, owner: models.Staff, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[models.ApiKey, str]:
    """Creates a key and returns its token, which cannot be read again; records an event in the owner's stream.

    Raises `ValueError` naming an unknown scope.
    """
    wanted = sorted(set(scopes))
    known = all_scopes()
    unknown = [scope for scope in wanted if scope not in known]
    if unknown or not wanted:
        named = ", ".join(unknown) or "none"
        raise ValueError(f"unknown scope: {named} (known: {', '.join(known)})")
    prefix, secret = get_random_string(12, ALPHABET), secrets.token_urlsafe(32)
    with transaction.atomic():
        key = models.ApiKey.objects.create(
            prefix=prefix, name=name, secret_hash=hashed(secret), scopes=wanted, owner=owner, expires_at=expires_at
        )
        _record(key, domain.StaffKeyCreated(key=prefix, name=name, scopes=wanted, expires_at=expires_at))
    return key, f"fe_{prefix}.{secret}"


def revoke(key: models.ApiKey) -> bool:
    """Revokes the key; the event closes its live sockets. Returns False if it was revoked before."""
    with transaction.atomic():
        found = models.ApiKey.objects.select_for_update().get(pk=key.pk)
        if found.revoked_at is not None:
            return False
        found.revoked_at = timezone.now()
        found.save(update_fields=["revoked_at"])
        _record(found, domain.StaffKeyRevoked(key=found.prefix))
    return True


def _record(key: models.ApiKey, event: types.Event) -> None:
    store.append(types.stream_name(domain.CATEGORY, str(key.owner_id)), [event], store.ANY)


def hashed(secret: str, pepper: str | bytes | None = None) -> str:
    return salted_hmac(SALT, secret, secret=pepper or settings.SECRET_KEY, algorithm="sha256").hexdigest()


def verify(token: str) -> models.ApiKey:
    """Returns the key of a token. Raises `KeyRefused`; reports expiry and revocation only if the secret is correct."""
    prefix = prefix_of(token)
    secret = token.partition(".")[2]
    key = models.ApiKey.objects.select_related("owner").filter(prefix=prefix).first() if prefix else None
    if not _matches(secret, key.secret_hash if key else "") or key is None:
        raise KeyRefused("invalid_key", _("This API key is not valid."))
    if key.revoked_at is not None:
        raise KeyRefused("revoked_key", _("This API key was revoked."))
    if key.expires_at is not None and key.expires_at <= timezone.now():
        raise KeyRefused("expired_key", _("This API key has expired."))
    if not key.owner.is_active:
        raise KeyRefused("invalid_key", _("This API key is not valid."))
    _mark_used(key)
    return key


def prefix_of(token: str) -> str:
    """Returns the part of a token that finds its key; empty for other text."""
    prefix, dot, _secret = token.removeprefix("fe_").partition(".")
    return prefix if token.startswith("fe_") and dot and "\0" not in prefix else ""


def _matches(secret: str, known: str) -> bool:
    """Compares the secret in constant time, even if the key does not exist. Older peppers are still accepted."""
    peppers = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    found = [constant_time_compare(hashed(secret, pepper), known) for pepper in peppers]
    return any(found)


def _mark_used(key: models.ApiKey) -> None:
    """Records the last use, at most once a minute for each key."""
    now = timezone.now()
    if key.last_used_at is None or key.last_used_at < now - USED_EVERY:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
        models.ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
