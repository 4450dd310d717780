"""What the floors below learn from this one, in one place: records, projections, topics."""

from __future__ import annotations

from functools import partial

from backoffice import projections as tables
from backoffice import topics
from backoffice.sections.conflicts import domain as conflicts
from backoffice.sections.conflicts import inbox
from backoffice.sections.forms import domain as forms
from backoffice.sections.forms import preconditions
from backoffice.sections.privacy import erasure
from backoffice.sections.site_settings import domain as settings
from backoffice.sections.staff import sign_in
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import errors, extension
from events.rebuild import read_tables

AGGREGATES = (users.AGGREGATE, forms.AGGREGATE, submissions.AGGREGATE, settings.AGGREGATE, conflicts.AGGREGATE)

# category -> what keeps its read table, inside the transaction that writes the events
PROJECTIONS = {
    "user": tables.users,
    "form": tables.forms,
    "submission": tables.submissions,
    "setting": tables.settings,
    "conflict": tables.conflicts,
}

# category -> what other records must be like: before the read tables, and not when they are rebuilt
PRECONDITIONS = {
    "user": preconditions.users,
    "form": preconditions.forms,
    "submission": preconditions.submissions,
}

# category -> what is cleared up while the read tables still hold what an erasure takes, and not when they are rebuilt
BEFORE_ERASURES = {"user": erasure.notes}

# category -> what goes with the event that erases one: after the read tables, and not when they are rebuilt
ERASURES = {"user": erasure.users, "form": erasure.forms, "submission": erasure.submissions}

# read table -> category: what `rebuild_projection` can build anew
READ_TABLES = {
    "users": "user",
    "forms": "form",
    "submissions": "submission",
    "settings": "setting",
    "conflicts": "conflict",
}


def fill() -> None:
    """Called once from `ready()`; calling it again changes nothing."""
    for record in AGGREGATES:
        extension.register_aggregate(record)
    for category, demand in PRECONDITIONS.items():
        extension.project_inline(category, demand)
    for category, clear in BEFORE_ERASURES.items():
        extension.project_inline(category, clear)
    for category, project in PROJECTIONS.items():
        extension.project_inline(category, project)
    for category, follow in ERASURES.items():
        extension.project_inline(category, follow)
    extension.add_purgers(erasure.PURGERS)
    for table, category in READ_TABLES.items():
        read_tables.register(read_tables.ReadTable(name=table, category=category, project=PROJECTIONS[category]))
    for constraint, (field, message) in tables.CONSTRAINTS.items():
        extension.explain_constraint(constraint, partial(errors.Rejected, message, {field: message}))
    for constraint, refusal in preconditions.REFUSALS.items():
        extension.explain_constraint(constraint, refusal)
    extension.recall_before_merge(inbox.recall)
    topics.fill()
    sign_in.listen()
