"""The pages of alerts: those that are open, one alert, and the preview of a rule. They work without scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from backoffice import access, error_messages
from backoffice.web import actors, timeline
from events import context, errors, store, types
from metrics.monitoring.alerting import (
    chart,
    conditions,
    dispatching,
    domain,
    judge,
    models,
    preview,
    report,
    rules,
    silences,
    windows,
)

POLL_MS: Final = 5_000
ACTIONS: Final = ("acknowledge", "comment", "close", "escalate")
LATEST: Final = 100
EPISODES: Final = 20
BESIDE: Final = timedelta(minutes=15)  # of the chart, before and after the episode
MOST: Final = timedelta(hours=24)
HOURS: Final = (1, 6, 24, 72, 168)


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRow:
    """An alert as pages show it."""

    row: models.Alert
    title: str
    rule: models.Rule | None
    owner: str
    inhibited_by: Sequence[str]
    silenced_by: Sequence[models.Silence]
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An event of an alert as its timeline shows it."""

    event: types.RecordedEvent
    actor: str
    verb: Any
    icon: str
    text: str


def urls(site: AdminSite) -> list[URLPattern]:
    pages = AlertPages(site)
    routes: tuple[tuple[str, str, Callable[..., HttpResponse]], ...] = (
        ("", "list", pages.list_page),
        ("count/", "count", pages.count),
        ("preview/", "preview", pages.preview_page),
        ("<str:key>/", "alert", pages.alert_page),
        ("<str:key>/<str:verb>/", "act", pages.act),
    )
    return [path(f"alerts/{route}", site.admin_view(view), name=f"alerts_{name}") for route, name, view in routes]


def bell(_request: HttpRequest) -> dict[str, Any]:
    """The numbers of the bell in the header of every page."""
    return report.counts()


def may(request: HttpRequest) -> dict[str, bool]:
    """Maps each action to whether this person may do it to alerts."""
    return {action: access.may(request.user, action, domain.CATEGORY) for action in ACTIONS} | {
        "silence": access.may(request.user, "create", silences.CATEGORY),
        "edit": access.may(request.user, "update", rules.CATEGORY),
    }


def _demand(request: HttpRequest, action: str) -> None:
    if not access.may(request.user, action, domain.CATEGORY):
        raise PermissionDenied


def _actor_names(rows: Sequence[models.Alert]) -> dict[str, str]:
    """The names of owners, as recorded in their newest events about the alert."""
    found: dict[str, str] = {}
    for row in rows:
        if row.owner:
            events = store.read_stream(types.stream_name(domain.CATEGORY, row.pk), max(0, row.version - LATEST))
            named = (event for event in reversed(events) if event.actor == row.owner)
            event = next(named, None)
            found[row.owner] = actors.author(event).name if event else actors.actor(row.owner).name
    return found


def _shown(rows: Sequence[models.Alert], all_open: Sequence[models.Alert]) -> list[AlertRow]:
    known = models.by_id(models.Rule.objects.filter(pk__in={row.rule_id for row in rows}))
    names, muted = _actor_names(rows), report.Muted(all_open)
    return [
        AlertRow(
            row=row,
            title=dispatching.title_of(known[row.rule_id].title if row.rule_id in known else row.rule_id),
            rule=known.get(row.rule_id),
            owner=names.get(row.owner or "", ""),
            inhibited_by=muted.inhibited_by(row) if row.is_open else [],
            silenced_by=muted.silenced_by(row) if row.is_open else [],
            url=reverse("admin:alerts_alert", args=[row.pk]),
        )
        for row in rows
    ]


class AlertPages:
    """The pages under ``alerts/``; each view is a method."""

    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def _render(self, request: HttpRequest, name: str, data: dict[str, Any], status: int = 200) -> HttpResponse:
        """A page with a part that changes: ``<name>.html`` around ``<name>_part.html``."""
        as_of = timezone.localtime()
        shared = {"as_of": as_of, "poll_ms": POLL_MS, "may": may(request), **data}
        part = f"admin/backoffice/alerts/{name}_part.html"
        if request.GET.get("fragment"):
            response = TemplateResponse(request, part, shared)
            response["Cache-Control"] = "no-store"
            response["X-As-Of"] = f"{as_of:%H:%M:%S}"
            return response
        whole = {**self.site.each_context(request), **shared, "part": part}
        return TemplateResponse(request, f"admin/backoffice/alerts/{name}.html", whole, status=status)

    # -- alerts -------------------------------------------------------------------------------------------------------

    def list_page(self, request: HttpRequest) -> HttpResponse:
        """The open alerts, the pending rules, and the latest episodes that are over."""
        _demand(request, "view")
        found = report.alerts()
        past = models.Episode.objects.exclude(resolved_at=None).order_by("-raised_at", "-id")[:EPISODES]
        titles = dispatching.titles()
        data = {
            "title": _("Alerts"),
            "rows": _shown(found, found),
            "pending": _pending(),
            "past": [(one, _title(titles, one.alert), _target(one.alert)) for one in past],
        }
        return self._render(request, "alerts", data)

    def count(self, request: HttpRequest) -> HttpResponse:
        """The numbers of the bell, and the newest critical alert as a sentence to be announced."""
        _demand(request, "view")
        critical = [row for row in report.alerts(("firing",)) if row.severity == "critical"]
        newest = max(critical, key=lambda row: (row.updated_at, row.pk), default=None)
        said = ""
        if newest is not None:
            words = dispatching.describe(newest, dispatching.titles().get(newest.rule_id, newest.rule_id))
            said = _("Critical alert: %(alert)s") % {"alert": words}
        response = JsonResponse({**report.counts(), "newest": newest.pk if newest else None, "said": said})
        response["Cache-Control"] = "no-store"
        return response

    def alert_page(self, request: HttpRequest, key: str) -> HttpResponse:
        """One alert: its state, the chart with its episode shaded, its timeline, and the possible actions."""
        _demand(request, "view")
        row = _found(key)
        (shown,) = _shown([row], report.firing())
        data = {
            "title": shown.title,
            "shown": shown,
            "row": row,
            "chart": _chart(row, shown.rule),
            "entries": _timeline(row),
            "episodes": models.Episode.objects.filter(alert=key).order_by("-raised_at")[:EPISODES],
            "until": _default_until(row),
        }
        return self._render(request, "alert", data)

    def act(self, request: HttpRequest, key: str, verb: str) -> HttpResponse:
        """Acknowledge, comment, close or escalate (POST)."""
        if verb not in (*ACTIONS, "unacknowledge"):
            raise Http404
        _demand(request, "acknowledge" if verb == "unacknowledge" else verb)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        _found(key)
        try:
            command = _command(request, verb)
            dispatching.dispatch(types.Command(id=types.new_id(), key=key, data=command))
        except errors.EventsError as error:
            messages.error(request, error_messages.in_one_line(error))
        else:
            messages.success(request, _DONE[verb]())
        return HttpResponseRedirect(reverse("admin:alerts_alert", args=[key]))

    # -- preview ------------------------------------------------------------------------------------------------------

    def preview_page(self, request: HttpRequest) -> HttpResponse:
        """How often a rule would have fired: that of `?rule=`, with other levels and times when they are given."""
        if not access.may(request.user, "view", rules.CATEGORY):
            raise PermissionDenied
        row = models.Rule.objects.filter(pk=request.GET.get("rule", "").replace("\0", "")).first()
        if row is None:
            raise Http404
        asked = request.GET.get("hours", "")
        hours = int(asked) if asked in [str(each) for each in HOURS] else 24
        data: dict[str, Any] = {"title": _("Preview of a rule"), "rule": row, "hours": hours, "choices": HOURS}
        try:
            rule = preview.changed_rule(row.pk, _given(request))
            found = preview.over_history(rule, hours=hours)
        except errors.EventsError as error:
            return self._preview(request, {**data, "problem": error_messages.in_one_line(error)}, 422)
        except preview.NoHistory:
            return self._preview(request, {**data, "problem": _("There is no history of this metric yet.")})
        spans = [(span.start, span.end, span.severity) for span in found.spans]
        drawn = chart.draw(rule, found.values, found.first, spans)
        result = preview.answer(found, hours)
        minutes = round(found.firing_seconds / 60)
        shown = {"tried": rule, "chart": drawn, "found": result, "minutes": minutes, "share": found.share}
        return self._preview(request, data | shown)

    def _preview(self, request: HttpRequest, data: dict[str, Any], status: int = 200) -> HttpResponse:
        whole = {**self.site.each_context(request), "may": may(request), "fields": _FIELDS, **data}
        return TemplateResponse(request, "admin/backoffice/alerts/preview.html", whole, status=status)


_FIELDS: Final = ("warn", "critical", "clear", "for_seconds", "critical_for_seconds", "keep_seconds")
_DONE: Final[dict[str, Callable[[], str]]] = {
    "acknowledge": lambda: _("Acknowledged."),
    "unacknowledge": lambda: _("The acknowledgement was ended."),
    "comment": lambda: _("The comment was added."),
    "close": lambda: _("The alert was closed: no more messages about this episode."),
    "escalate": lambda: _("The alert was escalated."),
}


def _found(key: str) -> models.Alert:
    row = None if "\0" in key else models.Alert.objects.filter(pk=key).first()
    if row is None:
        raise Http404
    return row


def _title(titles: dict[str, str], key: str) -> str:
    rule = domain.parts_of(key)[0]
    return dispatching.title_of(titles.get(rule, rule))


def _target(key: str) -> str:
    return domain.parts_of(key)[1]


def _pending() -> list[dict[str, Any]]:
    """Rules whose value is beyond a level, but not yet for long enough; none while no samples can be read."""
    try:
        found = list(judge.pending(judge.present_slot() - 1))
    except windows.NoSource:
        return []
    return [
        {"title": dispatching.title_of(subject.rule.title), "target": subject.target, "one": one, "key": subject.key}
        for subject, one in found
    ]


def _given(request: HttpRequest) -> dict[str, Any]:
    """The fields of the preview's form. Raises `InvalidCommand` for one that is no number."""
    found: dict[str, Any] = {}
    for name in _FIELDS:
        text = request.GET.get(name)
        if text is None:
            continue
        try:
            number = float(text) if text.strip() else None
        except ValueError:
            raise errors.InvalidCommand(fields={name: "Enter a number."}) from None
        found[name] = int(number) if number is not None and name.endswith("_seconds") else number
    return found


def _command(request: HttpRequest, verb: str) -> types.CommandData:
    posted, by = request.POST, context.current().actor
    text = posted.get("text", "").replace("\r\n", "\n")[: domain.MAX_TEXT]
    if verb == "comment":
        return domain.CommentAlert(by=by, text=text)
    number = posted.get("episode", "")
    episode = int(number) if number.isdecimal() and len(number) < 10 else 0
    match verb:
        case "acknowledge":
            until = _instant(posted.get("until", ""))
            return domain.AcknowledgeAlert(episode=episode, by=by, note=text, until=until)
        case "unacknowledge":
            return domain.UnacknowledgeAlert(episode=episode, by=by)
        case "close":
            return domain.CloseAlert(episode=episode, by=by, why=text)
        case _:
            return domain.EscalateAlert(episode=episode, by=by)


def _instant(text: str) -> Any:
    """A local time of the form as an instant; None for an empty one."""
    try:
        found = parse_datetime(text) if text else None
    except ValueError:
        found = None
    if text and found is None:
        raise errors.InvalidCommand(fields={"until": "Enter a time within the next seven days."})
    return timezone.make_aware(found) if found and timezone.is_naive(found) else found


def _default_until(row: models.Alert) -> str:
    until = timezone.localtime(report.now() + domain.ACKNOWLEDGED_FOR.get(row.severity, timedelta(hours=1)))
    return f"{until:%Y-%m-%dT%H:%M}"


# -- chart and timeline -----------------------------------------------------------------------------------------------


def _chart(row: models.Alert, rule: models.Rule | None) -> chart.Chart | None:
    """The values around the latest episode, at most a day, with every episode in it."""
    if rule is None or row.raised_at is None:
        return None
    end = min(row.resolved_at + BESIDE, report.now()) if row.resolved_at else report.now()
    start = max(min(row.since or row.raised_at, row.raised_at) - BESIDE, end - MOST)
    slot = int(end.timestamp()) // conditions.SLOT_SECONDS - 1
    try:
        values = windows.window(judge.rule_of(rule), row.target, int((end - start).total_seconds()), slot)
    except (KeyError, windows.NoSource):
        return None
    within = models.Episode.objects.filter(alert=row.pk, raised_at__lt=end).order_by("-raised_at")[:LATEST]
    spans = [
        (_slot(one.raised_at), _slot(one.resolved_at) if one.resolved_at else None, one.severity) for one in within
    ]
    return chart.draw(judge.rule_of(rule), values, slot - len(values) + 1, spans)


def _slot(moment: Any) -> int:
    return int(moment.timestamp()) // conditions.SLOT_SECONDS


def _timeline(row: models.Alert) -> list[Entry]:
    """The latest events, newest first."""
    events = store.read_stream(types.stream_name(domain.CATEGORY, row.pk), max(0, row.version - LATEST))
    return [_entry(event) for event in reversed(events)]


def _entry(event: types.RecordedEvent) -> Entry:
    verb, icon = timeline.verb_of(event.type)
    return Entry(event=event, actor=actors.author(event).name, verb=verb, icon=icon, text=_said(event))


def _said(event: types.RecordedEvent) -> str:
    """The details of an event for the timeline, beside its verb."""
    data = event.data
    match event.type:
        case "alert.commented":
            said = data.get("text", "")
        case "alert.acknowledged":
            said = data.get("note", "")
        case "alert.closed":
            said = data.get("why", "")
        case "alert.resolved":
            said = WHY.get(data.get("why", ""), lambda: "")()
        case "alert.flapping":
            said = _("raised %(count)s times within an hour") % {"count": data["count"]}
        case "alert.escalated":
            said = _("step %(step)s") % {"step": data["step"]}
        case _:
            said = _measured(data)
    return str(said)


def _measured(data: types.JsonDict) -> str:
    """The severity and the value of an event."""
    severity = str(models.Severity(data["severity"]).label) if "severity" in data else ""
    value = _("no data") if data.get("reason") == "no_data" else data.get("value")
    shown = f"{value:g}" if isinstance(value, int | float) else value
    return ", ".join(filter(None, (severity, shown)))


WHY: Final[dict[str, Callable[[], str]]] = {
    "recovered": lambda: _("the value is normal again"),
    "data_returned": lambda: _("values arrive again"),
    "no_data": lambda: _("no values arrive any more"),
    "rule_changed": lambda: _("the rule was changed"),
    "rule_disabled": lambda: _("the rule was disabled"),
    "rule_deleted": lambda: _("the rule was deleted"),
    "target_gone": lambda: _("the host or subscription is gone"),
}
