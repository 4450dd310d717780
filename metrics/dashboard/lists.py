"""Widgets of lists and counts: each function returns what its template shows.

The caller has checked that the reader may see the widget; further rights for a part of it are checked here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.urls import reverse
from django.utils import timezone

from backoffice import access, models, section
from backoffice.web import event_rows
from events import head, store
from events.privacy import erasure
from events.subscriptions import status as subscription_status
from metrics import catalogue, queries
from metrics.dashboard.asked import Asked
from metrics.monitoring import dependencies, overview

ROWS: Final = {1: 3, 2: 8, 3: 14}  # height of a tile -> rows that fit


# -- the system -------------------------------------------------------------------------------------------------------


def health(asked: Asked) -> dict[str, Any]:
    """One word for the state of the system, and the dependencies that are not well.

    Their reasons are for those who may see how the system runs.
    """
    found = dependencies.statuses(since=False)
    details = access.may(asked.staff, "view", "system")
    broken = [one for one in found if one.state in {"warn", "bad"}]
    unknown = sum(1 for one in found if one.state == "unknown")
    return {
        "state": found[0].state,
        "broken": [
            {"label": one.dependency.label, "reason": one.reason if details else "", "look": one.look}
            for one in broken[: ROWS[asked.h] * asked.w]
        ],
        "count": len(broken),
        "unknown": unknown,
        "well": len(found) - len(broken) - unknown,
        "link": "admin:system_health" if details else "",
    }


def subscriptions(asked: Asked) -> dict[str, Any]:
    """The checkpoints, those that do not run first, and then the furthest behind."""
    found = subscription_status.statuses()
    found.sort(key=lambda one: (one.state == "running", -one.behind, one.checkpoint.name))
    return {
        "rows": found[: ROWS[asked.h] * (2 if asked.w > 2 else 1)],
        "count": len(found),
        "running": sum(1 for one in found if one.state == "running"),
        "parked": sum(one.checkpoint.parked for one in found),
    }


def log(_asked: Asked) -> dict[str, Any]:
    """The head of the log, how long it has been held back, and the events after the last seal."""
    safe = head.safe()
    holders = head.holders()
    return {
        "head": safe,
        "held": max((holder.seconds or 0 for holder in holders), default=None),
        "seal": overview.sealed(safe),
    }


# -- the product ------------------------------------------------------------------------------------------------------


def figures(asked: Asked) -> dict[str, Any]:
    """Numbers of users, forms and submissions, with those of today (UTC) for readers who may see days.

    The totals, which may be older, include at least what is counted for today.
    """
    today = timezone.now().date()
    day, counted = None, 0
    if access.may(asked.staff, "view", "form"):
        answer = queries.ask(catalogue.FormStats(first=today, last=today), asked.staff)
        day, counted = answer.value[-1], answer.position
    totals = queries.ask(catalogue.Totals(), asked.staff, min_position=counted)
    shown = (
        ("user", totals.value.user_count, day and day.users_created),
        ("form", totals.value.form_count, day and day.forms_created),
        ("submission", totals.value.submission_count, day and day.submissions),
    )
    rows = [
        {"label": (kind := section.kind(category)).plural, "icon": kind.icon, "url": reverse(kind.url("changelist"))}
        | {"total": total, "today": added}
        for category, total, added in shown
        if access.may(asked.staff, "view", category)
    ]
    return {"rows": rows, "as_of": totals.at}


def conflicts(asked: Asked) -> dict[str, Any]:
    """The number of open conflicts that this person may see, and the oldest of them."""
    seen = [kind.category for kind in section.kinds() if access.may(asked.staff, "view", kind.category)]
    waiting = models.Conflict.objects.filter(status=models.Conflict.Status.OPEN, category__in=seen)
    rows = list(waiting.order_by("created_at", "id")[: ROWS[asked.h]])
    names = event_rows.names_of(rows, asked.staff)
    return {
        "count": waiting.count(),
        "rows": [
            {
                "name": names.get(row.stream) or row.key,
                "kind": section.kind(row.category).singular,
                "url": reverse("admin:backoffice_conflict_change", args=[row.pk]),
                "at": row.created_at,
            }
            for row in rows
        ],
    }


def activity(asked: Asked) -> dict[str, Any]:
    """The newest events about records that this person may see."""
    return {"rows": event_rows.latest(asked.staff, ROWS[asked.h])}


# -- privacy ----------------------------------------------------------------------------------------------------------

ERASED: Final = """
select count(*), max(erased_at) from events_subject_key where erased_at >= %s
"""
RECENT: Final = timedelta(days=30)


def erasures(_asked: Asked) -> dict[str, Any]:
    """The number of erasures whose copies are not purged yet, since when, and the erasures of the last 30 days."""
    found = erasure.status()
    recent: int
    last: datetime | None
    recent, last = store.query(ERASED, (timezone.now() - RECENT,))[0]
    return {"unpurged": found.unpurged, "since": found.since, "recent": recent, "last": last}


def note(asked: Asked) -> dict[str, Any]:
    return {"text": asked.options.text}
