"""Changes of channels by people and programs: each is one transaction with an event in `channel-<id>`.

Secrets are write-only. The one exception is the signing key of a webhook, returned once when it is made.
"""

from __future__ import annotations

import uuid
import zoneinfo
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from events import errors, store, types
from metrics.monitoring.notify import channel_events, planner, queue, secrets, sender
from metrics.monitoring.notify.channels import guard
from metrics.monitoring.notify.models import Channel, Delivery
from metrics.monitoring.notify.secrets import ChannelSecret

OPEN_FIELDS: Final = ("name", "recipients", "language", "min_severity", "quiet_from", "quiet_until", "zone")
SECRET_FIELDS: Final = ("url", "token", "room")
MAX_RECIPIENTS: Final = 20

RESUME: Final = """
update metrics_channel set paused_at = null, paused_why = '', failures = 0
 where id = %s and paused_at is not null and deleted_at is null returning id
"""

DROP: Final = """
update metrics_delivery set state = 'dropped', why = 'channel_deleted', finished_at = clock_timestamp()
 where channel_id = %s and state in ('waiting', 'muted')
"""

# Again from the beginning of the schedule, with the same message id.
AGAIN: Final = """
update metrics_delivery set state = 'waiting', why = '', due = clock_timestamp(), finished_at = null,
       expires_at = clock_timestamp() + %s
 where id = %s and state in ('waiting', 'failed') and kind <> 'test'
   and (leased_until is null or leased_until < clock_timestamp()) returning id
"""


class NotRetryable(errors.Rejected):
    """Only a delivery that waits or has failed can be sent again."""

    code = "not_retryable"
    status = 409


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that was written, and the signing key that was made for it, if any."""

    channel: Channel
    signing_key: str | None = None


def find(channel: uuid.UUID) -> Channel:
    """The channel of this id. Raises `StreamNotFound` where it does not exist or was deleted."""
    found = Channel.objects.filter(pk=channel, deleted_at=None).first()
    if found is None:
        raise errors.StreamNotFound("There is no such channel.")
    return found


def write(channel: uuid.UUID | None, given: Mapping[str, Any]) -> Written:
    """Create a channel, or change the given fields of one. Raises `InvalidCommand` with a message for each field.

    `given` may contain `kind` (of a new one), `OPEN_FIELDS`, `SECRET_FIELDS` and ``rotate`` (make a new signing key).
    An empty secret leaves the stored one as it is.
    """
    with transaction.atomic():
        row, before, old, secret = _applied(channel, given)
        secret, made = _with_signing(row, secret, rotate=bool(given.get("rotate")))
        if found := problems(row, secret):
            raise errors.InvalidCommand(fields=found)
        row.target = ", ".join(row.recipients) if row.kind == "email" else guard.host_of(secret.url)
        if channel is None or secret != old:
            row.secret = secrets.encrypted(row.pk, secret)
        row.save(force_insert=channel is None)
        changed = [name for name in OPEN_FIELDS if before[name] != getattr(row, name)]
        changed += [name for name in (*SECRET_FIELDS, "signing") if getattr(old, name) != getattr(secret, name)]
        if channel is None:
            _append(row.pk, channel_events.ChannelCreated(name=row.name, kind=row.kind))
        elif changed:
            _append(row.pk, channel_events.ChannelUpdated(changed=changed))
    return Written(channel=row, signing_key=made)


def check(channel: uuid.UUID | None, given: Mapping[str, Any]) -> dict[str, str]:
    """The errors for which `write` would refuse the change: field -> message."""
    with transaction.atomic():
        row, _before, _old, secret = _applied(channel, given)
        return problems(row, secret)


def _applied(
    channel: uuid.UUID | None, given: Mapping[str, Any]
) -> tuple[Channel, dict[str, Any], ChannelSecret, ChannelSecret]:
    """The row with the given values, its open values before, and its secret before and after."""
    row = Channel(kind=str(given.get("kind", ""))) if channel is None else _locked(channel)
    before = {name: getattr(row, name) for name in OPEN_FIELDS}
    for name in OPEN_FIELDS:
        if name in given:
            setattr(row, name, given[name])
    old = _stored_secret(row)
    return row, before, old, _changed_secret(old, given)


def _locked(channel: uuid.UUID) -> Channel:
    found = Channel.objects.select_for_update().filter(pk=channel, deleted_at=None).first()
    if found is None:
        raise errors.StreamNotFound("There is no such channel.")
    return found


def _stored_secret(row: Channel) -> ChannelSecret:
    """The stored secret; an empty one when it cannot be decrypted, so that it can be entered again."""
    try:
        return secrets.decrypted(row.pk, row.secret)
    except secrets.Unreadable:
        return ChannelSecret()


def _changed_secret(old: ChannelSecret, given: Mapping[str, Any]) -> ChannelSecret:
    """The secret with the values that are not empty. Another host must not get the token of the old one."""
    changed = {name: given[name].strip() for name in SECRET_FIELDS if given.get(name)}
    if "url" in changed and _host(changed["url"]) != _host(old.url) and "token" not in changed:
        changed["token"] = ""
    return msgspec.structs.replace(old, **changed)


def _host(url: str) -> str:
    try:
        return guard.host_of(url)
    except ValueError:
        return url


def _with_signing(row: Channel, secret: ChannelSecret, *, rotate: bool) -> tuple[ChannelSecret, str | None]:
    """The secret (of a webhook: with a signing key), and the key when it is new.

    The old key is used for a day more.
    """
    if row.kind != "webhook" or (secret.signing and not rotate):
        return secret, None
    now = store.query("select extract(epoch from clock_timestamp())::float8")[0][0]
    key = secrets.new_signing_key()
    kept = {"previous": secret.signing, "previous_until": now + secrets.GRACE_SECONDS} if secret.signing else {}
    return msgspec.structs.replace(secret, signing=key, **kept), key


def problems(row: Channel, secret: ChannelSecret) -> dict[str, str]:
    """The errors of a channel: field -> message."""
    found: dict[str, str] = {}
    try:
        row.full_clean(exclude=["target", "paused_why"])
    except ValidationError as error:
        found = {
            ("quiet_from" if name == NON_FIELD_ERRORS and "quiet" in str(texts).lower() else _field(name)): texts[0]
            for name, texts in error.message_dict.items()
        }
    if row.zone not in zoneinfo.available_timezones():
        found["zone"] = _("Enter a time zone such as Europe/Paris.")
    return found | (_email_problems(row) if row.kind == "email" else _url_problems(row, secret))


def _field(name: str) -> str:
    return "name" if name == NON_FIELD_ERRORS else name


def _email_problems(row: Channel) -> dict[str, str]:
    if not row.recipients:
        return {"recipients": _("Enter at least one e-mail address.")}
    if len(row.recipients) > MAX_RECIPIENTS:
        return {"recipients": _("Enter at most %(number)d addresses.") % {"number": MAX_RECIPIENTS}}
    return {}


def _url_problems(row: Channel, secret: ChannelSecret) -> dict[str, str]:
    found: dict[str, str] = {}
    if row.recipients:
        found["recipients"] = _("Only e-mail channels have recipients.")
    try:
        parts = guard.parsed(secret.url)
    except guard.Refused:
        return found | {"url": _("Enter a URL that begins with https:// and has no user name and no spaces.")}
    if row.kind == "ntfy" and not parts.path.strip("/"):
        found["url"] = _("Enter the URL of a topic, such as https://ntfy.sh/topic.")
    if row.kind == "matrix" and not secret.room:
        found["room"] = _("Enter the id of the room, such as !room:example.org.")
    if row.kind == "matrix" and not secret.token:
        found["token"] = _("Enter the access token.")
    if not all("!" <= character <= "~" for character in secret.token):
        found["token"] = _("A token has no spaces and no special characters.")
    return found


def _append(channel: uuid.UUID, event: types.Event) -> None:
    store.append(types.stream_name(channel_events.CATEGORY, channel), [event])


# -- what else happens to a channel -----------------------------------------------------------------------------------


def pause(channel: uuid.UUID) -> bool:
    """Keep messages back until somebody resumes the channel; False when it is paused already."""
    with transaction.atomic():
        return queue.pause(channel, _locked(channel).name, "by_hand")


def resume(channel: uuid.UUID) -> bool:
    """Send messages again, also those that have waited; False when the channel was not paused."""
    with transaction.atomic():
        _locked(channel)
        if not store.query(RESUME, (channel,)):
            return False
        _append(channel, channel_events.ChannelResumed())
    return True


def delete(channel: uuid.UUID) -> None:
    """Delete a channel and its secrets. Its deliveries stay in the log; those that wait are dropped."""
    with transaction.atomic():
        row = _locked(channel)
        row.secret, row.recipients, row.target = None, [], ""
        row.deleted_at = store.query("select clock_timestamp()")[0][0]
        row.save()
        store.execute(DROP, (channel,))
        _append(channel, channel_events.ChannelDeleted())


def test(channel: uuid.UUID) -> Delivery:
    """Send a test message now, through the queue like all messages; returns its delivery, with the answer."""
    find(channel)
    delivery = planner.test_message(channel)
    sender.send_one(delivery)
    return Delivery.objects.select_related("channel").get(pk=delivery)


def retry(delivery: int) -> None:
    """Have a delivery sent again, from the beginning of the schedule. Raises `NotRetryable`."""
    if not store.query(AGAIN, (planner.GIVE_UP, delivery)):
        raise NotRetryable
