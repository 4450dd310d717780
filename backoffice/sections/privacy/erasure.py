"""Erases a user, a form or a submission: the changes in the transaction of the event, and the purge afterwards.

In the transaction of the event, for commands of every origin, inline projections that a rebuild does not run (`users`,
`forms`, `submissions` below) discard open conflicts about the record, erase a user's forms too, and delete the keys.
After the commit, the rest is purged in steps (`events.privacy.purging`): some rows in the request, others by a worker.
A form's answers belong to its owner's subject and are erased with the owner. For statistics the log still shows that
the records existed, when, and on which plan.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from backoffice import models
from backoffice.sections.conflicts import domain as conflicts
from backoffice.sections.forms import domain as form_domain
from backoffice.sections.submissions import domain as submission_domain
from backoffice.sections.users import domain as user_domain
from events import commands, context, extension, jobs, store, types
from events.privacy import erasure, purging
from events.types import ERASED, Command, NewEvent

CHUNK: Final = 1_000
KINDS: Final = ("form", "submission")

# The conflicts about these records, and about submissions of these forms. Each half is found by an index.
ABOUT: Final = """
id in (
    select c.id from unnest(%(streams)s::text[]) about (stream)
      join conflicts c on c.category = split_part(stream, '-', 1) and c.key = substr(stream, strpos(stream, '-') + 1)
    union all
    select c.id from conflicts c join submissions s on s.id = case when c.category = 'submission' then c.key::uuid end
     where c.category = 'submission' and s.form_id = any(%(forms)s::uuid[]))
"""

# -- before the erasure -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AffectedData:
    """The data that an erasure affects: versions of the record, forms, submissions, conflicts about them."""

    versions: int
    forms: int = 0
    submissions: int = 0
    conflicts: int = 0


def _about(row: models.User | models.Submission) -> dict[str, Any]:
    """Returns the parameters of `ABOUT` for a record and its dependent records."""
    forms: list[Any] = []
    if isinstance(row, models.User):
        forms = list(models.Form.objects.filter(user_id=row.pk).values_list("pk", flat=True))
    own = types.stream_name(type(row).__name__.lower(), row.pk)
    return {"streams": [own, *(types.stream_name("form", pk) for pk in forms)], "forms": [str(pk) for pk in forms]}


def conflicts_about(user: models.User) -> list[uuid.UUID]:
    """Returns the conflicts that contain data of a user, of their forms or of the answers to those."""
    return [row[0] for row in store.query(f"select id from conflicts where {ABOUT}", _about(user))]  # noqa: S608


def affected_data(row: models.User | models.Submission) -> AffectedData:
    """Counts the data that an erasure of this record would remove."""
    parameters = _about(row)
    return AffectedData(
        versions=row.version,
        forms=len(parameters["forms"]),
        submissions=models.Submission.objects.filter(form_id__in=parameters["forms"]).count(),
        conflicts=store.query(f"select count(*) from conflicts where {ABOUT}", parameters)[0][0],  # noqa: S608
    )


# -- in the transaction of the event --------------------------------------------------------------------------------


def notes(events: Sequence[NewEvent]) -> None:
    """Removes the values of erased users from stored error notes, before the read tables are written."""
    if erased := _of(events, user_domain.UserErased):
        purging.scrub(_values_of(erased))


def users(events: Sequence[NewEvent]) -> None:
    """Projects `user.erased`: discards conflicts, erases the forms, deletes the key. `notes` ran before."""
    erased = _of(events, user_domain.UserErased)
    if not erased:
        return
    _discard_conflicts(erased)
    _erase_forms(erased)
    erasure.shred(erased)
    _purge_after_commit(erased)


def forms(events: Sequence[NewEvent]) -> None:
    """Projects `form.erased`: discards conflicts about it and its submissions, and deletes the key of all of them."""
    erased = _of(events, form_domain.FormErased)
    if not erased:
        return
    _discard_conflicts(erased)
    erasure.shred([*erased, *_with_own_key(erased)])
    _purge_after_commit(erased)


def submissions(events: Sequence[NewEvent]) -> None:
    """Projects `submission.erased`: discards conflicts, and deletes its leaf of the form's key tree and its own key."""
    erased = _of(events, submission_domain.SubmissionErased)
    if not erased:
        return
    _discard_conflicts(erased)
    for event in events:
        if isinstance(event.data, submission_domain.SubmissionErased):
            form_id = event.data.form_id or models.Submission.form_of(event.key)
            erasure.shred_leaf(types.stream_name("form", form_id), event.stream)
    erasure.shred(erased)
    _purge_after_commit(erased)


def _of(events: Iterable[NewEvent], kind: type[types.Event]) -> list[str]:
    return [event.stream for event in events if isinstance(event.data, kind)]


def _values_of(streams: Sequence[str]) -> set[str]:
    """Returns all addresses and names that these users ever had; the current ones even if events are unreadable."""
    rows = models.User.objects.filter(pk__in=[types.key_of(stream) for stream in streams])
    found = {value for row in rows.values_list(*user_domain.PERSONAL) for value in row if value}
    for stream in streams:
        for event in store.read_stream(stream):
            found |= {event.data[name] for name in user_domain.PERSONAL if event.data.get(name)}
    return found - {ERASED}


OPEN_CONFLICTS: Final = f"select id, category || '-' || key from conflicts where status = 'open' and {ABOUT}"  # noqa: S608 - a constant


def _discard_conflicts(streams: Sequence[str]) -> None:
    """Discards conflicts about erased records. The event has no reason: that is recorded with the erasure."""
    forms = [types.key_of(stream) for stream in streams if types.category_of(stream) == "form"]
    waiting = store.query(OPEN_CONFLICTS, {"streams": list(streams), "forms": forms})
    with context.acting(reason=None):
        for key, stream in waiting:
            commands.dispatch(Command(id=types.new_id(), key=str(key), data=conflicts.DropConflict(stream=stream)))


def _erase_forms(streams: Sequence[str]) -> None:
    owners = [types.key_of(stream) for stream in streams]
    owned = models.Form.objects.filter(user_id__in=owners, erased_at=None).order_by("id").values_list("pk", flat=True)
    keys = [str(key) for key in owned]
    for start in range(0, len(keys), CHUNK):
        commands.dispatch_many(
            [Command(id=types.new_id(), key=key, data=form_domain.EraseForm()) for key in keys[start : start + CHUNK]]
        )


WITH_OWN_KEY: Final = """
select k.subject from submissions s join events_subject_key k on k.subject = 'submission-' || s.id
 where s.form_id = any(%s::uuid[]) and k.erased_at is null
"""


def _with_own_key(streams: Sequence[str]) -> list[str]:
    """Returns submissions of these forms that have their own key, because a conflict or a reason was about them."""
    return [row[0] for row in store.query(WITH_OWN_KEY, ([types.key_of(stream) for stream in streams],))]


# -- after the commit -------------------------------------------------------------------------------------------------

# The next rows of a form in the order of their ids (index `submissions_form_all`), so that each is read once. They are
# updated by an array of their ids: in a join PostgreSQL would read the whole table for each batch.
ANSWERS: Final = """
with batch as materialized (
    select id, answers <> %(none)s::jsonb as is_readable from submissions
     where form_id = %(form)s::uuid and id {beyond} %(after)s::uuid order by id limit %(limit)s
), changed as (
    update submissions set answers = %(none)s::jsonb
     where id = any(array(select id from batch where is_readable)) returning 1
)
select (select count(*) from batch), last.id::text from (select id from batch order by id desc limit 1) last
"""

LOWEST: Final = str(uuid.UUID(int=0))

COUNT: Final = "select count(*) from submissions where form_id = any(%(forms)s::uuid[])"


def _sweep_answers(subjects: Sequence[str], limit: int, place: Any) -> tuple[int, Any]:
    """Clears the answers of the forms' submissions, form after form; a place is [form, id]."""
    parameters = _parameters(subjects, limit)
    rows = 0
    for form in sorted(parameters["forms"]):
        if place is not None and form < place[0]:
            continue
        after, beyond = (place[1], ">") if place is not None and form == place[0] else (LOWEST, ">=")
        wanted = parameters | {"form": form, "after": after, "limit": limit - rows}
        for read, last in store.query(ANSWERS.format(beyond=beyond), wanted):
            rows += read
            if rows == limit:
                return rows, [form, last]
    return rows, None


def _count_answers(subjects: Sequence[str]) -> int:
    found: int = store.query(COUNT, _parameters(subjects, 0))[0][0]
    return found


REASONS: Final = f"""
update conflicts set reason = %(erased)s where reason not in ('', %(erased)s) and {ABOUT} returning 1
"""  # noqa: S608 - a constant

PARKED_SUBMISSIONS: Final = """
update events_parked p set error = %(erased)s, traceback = null
 where p.error <> %(erased)s and p.stream ~ '^submission-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' and exists (
       select 1 from submissions s where s.form_id = any(%(forms)s::uuid[])
          and s.id = case when p.stream like 'submission-%%' then substr(p.stream, 12)::uuid end)
returning 1
"""


# Results of commands about a submission are encrypted under its form's subject. Finding them reads all rows of the
# form, so this runs after the commit, when no request waits.
REMEMBERED: Final = """
delete from events_command c using submissions s
 where s.id = any(%(submissions)s::uuid[]) and c.subject = 'form-' || s.form_id and c.stream = 'submission-' || s.id
returning 1
"""


def _parameters(subjects: Sequence[str], limit: int) -> dict[str, Any]:
    keys = {category: [types.key_of(s) for s in subjects if types.category_of(s) == category] for category in KINDS}
    none = msgspec.json.encode(submission_domain.NO_ANSWERS).decode()
    parameters = {"streams": list(subjects), "forms": keys["form"], "submissions": keys["submission"]}
    return parameters | {"erased": ERASED, "none": none, "limit": limit}


def _purge(statement: str, subjects: Sequence[str], limit: int) -> int:
    return len(store.query(statement, _parameters(subjects, limit)))


PURGERS: Final[dict[str, extension.Purger | extension.Sweep]] = {
    "answers of submissions": extension.Sweep(_sweep_answers, _count_answers),
    "reasons of conflicts": partial(_purge, REASONS),
    "parked submissions": partial(_purge, PARKED_SUBMISSIONS),
    "commands about submissions": partial(_purge, REMEMBERED),
}


# Rows that the erasing request itself purges; a worker does the rest.
AT_ONCE: Final = 1_000


def _purge_after_commit(erased: Sequence[str]) -> None:
    store.once_committed(_purge_some, erased)


def _purge_some(erased: Sequence[str]) -> None:
    """Purges a little at once, and has a worker do the rest. `events.tasks.finish_erasures` also runs every minute."""
    purging.finish(erased, most=AT_ONCE)
    if purging.progress(erased[-1]):
        jobs.send("events.tasks.finish_erasures")
