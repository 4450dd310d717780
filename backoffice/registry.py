"""Registers the declarations of the sections with the lower layers."""

from __future__ import annotations

from django.contrib.admin import AdminSite

from backoffice import listing, section, topics
from events import extension
from events.rebuild import read_tables
from realtime import auth
from realtime import topics as live


def fill() -> None:
    """Loads the sections and registers their declarations; `ready()` calls it, and repeated calls change nothing.

    Projections of an event run in this order: preconditions on other records, the read table, further effects.
    """
    section.load()
    found, kinds = section.sections(), section.kinds()
    tables = [*(kind.read_table for kind in kinds), *(table for one in found for table in one.read_tables)]
    for record in [*(kind.aggregate for kind in kinds), *(record for one in found for record in one.aggregates)]:
        extension.register_aggregate(record)
    inline = [
        *(hook for one in found for hook in one.before.items()),
        *((table.category, table.project) for table in tables),
        *(hook for one in found for hook in one.after.items()),
    ]
    for category, projection in inline:
        extension.project_inline(category, projection)
    for table in tables:
        read_tables.register(table)
    for kind in kinds:
        listing.SPECS[kind.name] = kind.spec
    feeds = [feed for kind in kinds for feed in topics.of_kind(kind)] + [feed for one in found for feed in one.topics]
    for feed in feeds:
        if live.find(feed.name) is None:
            live.register(feed)
    for one in found:
        for constraint, refusal in one.constraints.items():
            extension.explain_constraint(constraint, refusal)
        extension.add_purgers(one.purgers)
        topics.WIDGETS.update(one.widgets)
        auth.REVOCATIONS.update(one.revocations)
        if one.ready:
            one.ready()


def register_pages(site: AdminSite) -> None:
    """Registers the pages of every kind of record, and of the other models that sections declare."""
    from backoffice.web.record_admin import RecordAdmin  # noqa: PLC0415 - it needs the apps to be ready

    for one in section.sections():
        for kind in one.kinds:
            site.register(kind.model, RecordAdmin, kind=kind)
        for model, pages in one.admins.items():
            site.register(model, pages)
