"""The conflict inbox: lists changes that could not be merged, and resolves them."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from backoffice import access, models, topics
from backoffice.section import Inbox, NavItem, Section
from backoffice.sections.conflicts import domain, inbox, pages, projection
from events import extension
from events.rebuild.read_tables import ReadTable
from events.types import JsonDict, RecordedEvent
from realtime.topics import Topic


def show(event: RecordedEvent, role: str) -> JsonDict:
    """Returns the event with the record's stream, without the conflict's content; clients read that in the inbox."""
    shown = event.to_wire()
    seen = access.role_redact(role, event.category, event.data)
    shown["data"] = {name: seen[name] for name in ("stream", "fields", "author", "assignee") if name in seen}
    if not seen:
        shown.pop("reason", None)
    return shown


def _may_follow(staff: Any) -> bool:
    return access.may_resolve(staff) and topics.in_scope(staff, "events:read")


def _ready() -> None:
    extension.recall_before_merge(inbox.recall)


SECTION = Section(
    name="conflicts",
    navigation=(
        NavItem(
            label=_("Conflicts"),
            url_name="admin:backoffice_conflict_changelist",
            icon="merge",
            visible=access.may_resolve,
            key="c",
            count=pages.count_open,
        ),
    ),
    admins={models.Conflict: pages.ConflictAdmin},
    api_urls="backoffice.sections.conflicts.api",
    api_shapes="backoffice.sections.conflicts.shapes",
    redactions={domain.CATEGORY: access.redact_conflict},
    topics=(
        Topic(
            name="conflicts",
            categories=(domain.CATEGORY,),
            may_subscribe=_may_follow,
            projection_key=access.projection_key,
            project=show,
        ),
    ),
    aggregates=(domain.AGGREGATE,),
    read_tables=(ReadTable(name="conflicts", category=domain.CATEGORY, project=projection.conflicts),),
    inbox=Inbox(
        file=inbox.file,
        review=inbox.review,
        recall=inbox.recall,
        page="admin:backoffice_conflict_change",
    ),
    ready=_ready,
)
