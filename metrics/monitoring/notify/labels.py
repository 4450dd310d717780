"""Channels and deliveries in words, for pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils import formats, timezone
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext, pgettext_lazy

from metrics.monitoring.notify import messages, queue
from metrics.monitoring.notify.models import Channel, Delivery

WHY: Final[Mapping[str, Promise]] = {
    "superseded": gettext_lazy("replaced by a newer message"),
    "never_notified": gettext_lazy("nobody was notified of the alert"),
    "closed": gettext_lazy("the alert was closed"),
    "channel_deleted": gettext_lazy("the channel was deleted"),
    "gave_up": gettext_lazy("given up after 6 hours"),
    "not_sent": gettext_lazy("the channel was paused for too long"),
    "quiet_hours": gettext_lazy("until the end of the quiet hours"),
    "silence": gettext_lazy("by a silence"),
    "inhibited": gettext_lazy("because another alert explains it"),
    "flapping": gettext_lazy("because the alert flaps"),
}
PAUSED: Final[Mapping[str, Promise]] = {
    "by_hand": pgettext_lazy("channel", "Paused"),
    "failures": gettext_lazy("Paused: sending failed too often"),
    "gone": gettext_lazy("Paused: its receiver wants no more messages"),
}


def target(channel: Channel) -> str:
    """The destination without secrets: the number of recipients, or the host."""
    if channel.kind == "email":
        number = len(channel.recipients)
        return ngettext("%(number)d recipient", "%(number)d recipients", number) % {"number": number}
    return channel.target


def channel_state(channel: Channel) -> str:
    if channel.paused_at is not None:
        return str(PAUSED.get(channel.paused_why, PAUSED["by_hand"]))
    if channel.failures:
        number = channel.failures
        return ngettext("%(number)d failure in a row", "%(number)d failures in a row", number) % {"number": number}
    return pgettext("channel", "Works")


def subject(delivery: Delivery) -> str:
    """The subject of a delivery's message, in the language of the page."""
    names = queue.Claimed.__struct_fields__
    found = {name: getattr(delivery, name) for name in names if name != "attempt"}
    return messages.subject(queue.Claimed(**found, attempt=delivery.attempts))


def delivery_state(delivery: Delivery) -> str:
    """The state of a delivery, and the reason where there is one."""
    state = str(delivery.get_state_display())
    why = WHY.get(delivery.why.partition(":")[0])
    return f"{state}: {why}" if why else state


def attempts(delivery: Delivery) -> SafeString | str:
    """All attempts as a list; one without an end was made by a sender that died."""
    rows = []
    for one in delivery.tries.order_by("number"):
        outcome = one.get_outcome_display() or _("no end recorded: its sender stopped")
        at = formats.date_format(timezone.localtime(one.started_at), "DATETIME_FORMAT")
        rows.append((at, outcome, one.answer, one.sender))
    if not rows:
        return _("None yet")
    return format_html("<ol>{}</ol>", format_html_join("", "<li>{} · {} · {} · {}</li>", rows))
