"""The text of messages, in the current language, and the payload of webhooks.

A message contains rule, target, severity, value, time and link, and nothing about customers: free text of people
(notes, comments, reasons) is never part of it. `planner.FACTS` lists all that it can contain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.conf import settings
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from metrics.monitoring.notify import sources
from metrics.monitoring.notify.queue import Claimed
from metrics.monitoring.notify.sources import SOURCES

MANY: Final = 5  # more messages than this are listed with one line each

SEVERITIES: Final[Mapping[str, Promise]] = {
    "critical": gettext_lazy("Critical"),
    "warning": gettext_lazy("Warning"),
}
REASONS: Final[Mapping[str, Promise]] = {
    "threshold": gettext_lazy("The value is beyond its level."),
    "no_data": gettext_lazy("No values arrive."),
}
ENDINGS: Final[Mapping[str, Promise]] = {
    "recovered": gettext_lazy("The value is normal again."),
    "data_returned": gettext_lazy("Values arrive again, and they are normal."),
    "no_data": gettext_lazy("No values arrive any more."),
    "rule_changed": gettext_lazy("The rule was changed; the value is normal by the new one."),
    "rule_disabled": gettext_lazy("The rule was disabled."),
    "rule_deleted": gettext_lazy("The rule was deleted."),
    "target_gone": gettext_lazy("The monitored target does not exist any more."),
}
PAUSES: Final[Mapping[str, Promise]] = {
    "failures": gettext_lazy("Sending failed too often."),
    "gone": gettext_lazy("Its receiver wants no more messages (HTTP 410)."),
}


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A message for people. `link` labels `url` where the service shows a button."""

    subject: str
    lines: Sequence[str]
    url: str
    link: str
    urgent: bool


def text(deliveries: Sequence[Claimed]) -> Text:
    """One message for a batch: a few deliveries in full, or many as a digest with one line each."""
    urgent = any(one.severity == "critical" and one.kind != "resolved" for one in deliveries)
    link = _("Show alert") if len(deliveries) == 1 else _("Show alerts")
    if len(deliveries) == 1:
        only = deliveries[0]
        return Text(subject=subject(only), lines=details(only), url=url(only), link=link, urgent=urgent)
    number = len(deliveries)
    head = ngettext("%(number)d alert message", "%(number)d alert messages", number) % {"number": number}
    lines: list[str] = []
    for one in deliveries:
        lines += (
            [f"- {subject(one)}", f"  {url(one)}"] if number > MANY else [subject(one), *details(one), url(one), ""]
        )
    return Text(subject=head, lines=lines, url=settings.SITE_URL + SOURCES.path(""), link=link, urgent=urgent)


# -- one delivery -----------------------------------------------------------------------------------------------------


def _title(one: Claimed) -> str:
    """The rule's title with the target in parentheses."""
    rule, _colon, target = one.alert.partition(":")
    title = " ".join(SOURCES.rule(rule).title.split())
    return f"{title} ({target})" if target else title


def _test_subject(_one: Claimed) -> str:
    return _("Test message from FormEase")


def _notice_subject(one: Claimed) -> str:
    return _("The notification channel “%(channel)s” is paused") % {"channel": one.facts.get("channel", "")}


def _alert_subject(pattern: Callable[[], str]) -> Callable[[Claimed], str]:
    def subject_of(one: Claimed) -> str:
        severity = SEVERITIES.get(one.severity, one.severity)
        return pattern() % {"severity": severity, "title": _title(one)}

    return subject_of


SUBJECTS: Final[Mapping[str, Callable[[Claimed], str]]] = {
    "test": _test_subject,
    "notice": _notice_subject,
    "firing": _alert_subject(lambda: pgettext("alert message", "%(severity)s: %(title)s")),
    "worsened": _alert_subject(lambda: pgettext("alert message", "%(severity)s: %(title)s is worse")),
    "reminder": _alert_subject(lambda: pgettext("alert message", "%(severity)s: %(title)s is not acknowledged")),
    "escalated": _alert_subject(lambda: pgettext("alert message", "%(severity)s, escalated: %(title)s")),
    "flapping": _alert_subject(lambda: pgettext("alert message", "%(severity)s, flapping: %(title)s")),
    "resolved": _alert_subject(lambda: pgettext("alert message", "Resolved: %(title)s")),
}


def subject(one: Claimed) -> str:
    """A delivery in one line."""
    return SUBJECTS[one.kind](one)


def details(one: Claimed) -> list[str]:
    """The lines below the subject."""
    if one.kind == "test":
        return [_("Alerts will arrive here. You need not do anything.")]
    if one.kind == "notice":
        why = PAUSES.get(one.facts.get("why", ""), "")
        waits = _("Messages wait until somebody resumes it.")
        return [f"{why} {waits}".strip()]
    found = [*_about_end(one)] if one.kind == "resolved" else [*_about_alert(one)]
    if one.kind == "flapping":
        found += _about_flapping(int(one.facts.get("count", 0)))
    if one.late:
        found.append(_("This message is late, because the alert was muted or could not be delivered before."))
    return found


def _about_alert(one: Claimed) -> list[str]:
    facts = one.facts
    found = [str(REASONS[facts["reason"]])] if facts.get("reason") in REASONS else []
    if (value := facts.get("value")) is not None:
        metric = SOURCES.rule(sources.rule_of(one.alert)).metric
        found.append(_("Value: %(value)s") % {"value": SOURCES.value(metric, float(value))})
    if since := facts.get("since"):
        found.append(_("Since: %(time)s") % {"time": _time(since)})
    return found


def _about_flapping(count: int) -> list[str]:
    raised = ngettext(
        "It was raised %(count)d time within an hour.", "It was raised %(count)d times within an hour.", count
    )
    return [raised % {"count": count}, _("Its next messages are held back for an hour.")]


def _about_end(one: Claimed) -> list[str]:
    facts = one.facts
    found = [str(ENDINGS[facts["why"]])] if facts.get("why") in ENDINGS else []
    if (lasted := facts.get("lasted")) is not None:
        found.append(_("It lasted %(minutes)s min.") % {"minutes": max(1, round(float(lasted) / 60))})
    return found


def _time(value: Any) -> str:
    at = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def url(one: Claimed) -> str:
    """The URL of the page of the alert, or of the channels."""
    return settings.SITE_URL + (SOURCES.path(one.alert) if one.alert else reverse("admin:metrics_channel_changelist"))


# -- webhooks ---------------------------------------------------------------------------------------------------------

EVENTS: Final[Mapping[str, str]] = {
    "firing": "alert.firing",
    "worsened": "alert.worsened",
    "reminder": "alert.unacknowledged",
    "escalated": "alert.escalated",
    "flapping": "alert.flapping",
    "resolved": "alert.resolved",
    "notice": "channel.paused",
    "test": "test",
}


def payload(one: Claimed) -> dict[str, Any]:
    """The body of a webhook: ``{type, timestamp, data}``, the same at every attempt."""
    rule, _colon, target = one.alert.partition(":")
    data: dict[str, Any] = {"test": one.kind == "test", "message": subject(one), "url": url(one)}
    if one.alert:
        data |= {"alert": one.alert, "rule": rule, "target": target, "episode": one.episode, "severity": one.severity}
        data |= {"state": "resolved" if one.kind == "resolved" else "firing", "late": one.late}
    return {"type": EVENTS[one.kind], "timestamp": one.decided_at, "data": data | one.facts}
