"""`Plan` -> events. The form, if it is not there yet, then its submissions, a thousand to a transaction.

Importing a file again, a renamed, reordered or extended one, adds only what is not there (`identity` says how that is
known). A submission that staff deleted stays deleted, an erased one stays erased (`suppressions`). One that is there
with other content is reported, and corrected only on demand.

Everything that the domain or the store would refuse is found before the first write.
"""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from django.db import connection

from backoffice import bounds, preconditions, values
from backoffice.models import Form, User
from backoffice.sections.forms import domain as forms
from backoffice.sections.imports import existing, identity, memory, rows, suppressions
from backoffice.sections.imports.headers import Column
from backoffice.sections.submissions import domain as submissions
from events import aggregate, commands, context, errors, snapshots, store
from events.privacy import encryption, pseudonyms
from events.types import Command, CommandData, command_type_of, named_id, stream_name

# Of forms that were imported before ids were keyed.
NAMESPACE = uuid.UUID("7d0f0e5e-8a0b-5c1f-9b55-3c2f6f1b7a52")
CHUNK = 1_000
WRITERS = 2
MAX_PROBLEMS = 20
_SHAPES = {"multiple_choice": "list", "matrix": "rows", "ranking": "rows"}

Fresh: TypeAlias = tuple[rows.Identity, rows.Row]
Changed: TypeAlias = tuple[identity.Stored, rows.Row]


class ImportRejected(Exception):
    """The file is fine, but it cannot go into this form or to this owner."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that cannot be stored: where it is in the file, and why. Without a line: the form made of the headers."""

    message: str
    line: int | None = None
    column: Column | None = None

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line else []
        if self.column is not None:
            where.append(f"column {self.column.index + 1} (“{self.column.label[:60]}”)")
        return f"{', '.join(where)}: {self.message}" if where else self.message


class ValuesRejected(ImportRejected):
    """Values that the domain or the store refuses. `problems` holds the first of them."""

    def __init__(self, problems: Sequence[Problem], total: int) -> None:
        self.problems, self.total = problems, total
        lines = [*map(str, problems), *([f"and {total - len(problems)} more"] if total > len(problems) else ())]
        said = lines[0] if total == 1 else f"{total} values cannot be stored:\n  " + "\n  ".join(lines)
        super().__init__(f"{said}\nNothing was written.")


@dataclass(slots=True)
class Destination:
    """Where a plan's rows go: the form as it is now, which rows it lacks, and which it has with other content.

    `erased` are rows of submissions or persons that were erased; they are not written.
    """

    form_id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    version: int = 0
    fresh: list[Fresh] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    erased: list[rows.Row] = field(default_factory=list)
    known: int = 0
    by: Column | None = None
    new_fields: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# -- where to ---------------------------------------------------------------------------------------------------------


@memory.uncollected()
def destination(
    plan: rows.Plan, title: str, email: str, *, update: bool = False, archived: bool = False
) -> Destination:
    """Look up owner, form and rows, and check all that would be written; nothing is.

    `update`: rows that are there with other content are to be corrected. `archived` accepts a form that is archived.
    Raises `ImportRejected`, and `ValuesRejected` for values that cannot be stored.
    """
    title = values.normal_name(title)
    if not 0 < len(title) <= bounds.TITLE:
        raise ImportRejected(f"the title must have 1 to {bounds.TITLE} characters")
    owner = _owner(email)
    found, keyed = _form_of(owner, title)
    state, found.version = snapshots.state(stream_name("form", found.form_id))
    if found.version == 0:
        found.by = plan.respondent
        found.fresh = [(row.identity, row) for row in plan.rows]
    else:
        asked = _compare(found, plan, state)
        _match(found, plan, state, asked, keyed=keyed)
        if state.archived and found.fresh and not archived:
            raise ImportRejected(
                f"the form “{found.title}” is archived; add --archived to import its old submissions all the same"
            )
        _about_rows(found, update=update)
    if not update:
        found.changed.clear()
    _check(found, plan, state)
    return found


def _owner(email: str) -> User:
    try:
        owner = User.living_with(values.normal_email(email)).first()
    except ValueError as error:
        raise ImportRejected(f"“{email}” is not an owner: {error}") from None
    if owner is None:
        raise ImportRejected(
            f"there is no user with the email address {email}. Add the user first: Users, Add user in the admin, or "
            "POST /api/v1/commands/ with the type user.create"
        )
    return owner


def _form_of(owner: User, title: str) -> tuple[Destination, bool]:
    """The form that an import of this title made, or is to make; and whether the ids of its rows can be derived."""
    subject = stream_name("user", owner.pk)
    key = pseudonyms.of(subject)
    as_given, title = title, unicodedata.normalize("NFC", title)
    new = _form_id(key, title) if key is not None else uuid.uuid4()  # one without a key gets it with the first write
    old = named_id(NAMESPACE, f"form\x1f{owner.pk}\x1f{as_given}")
    for form_id in (new, old, *_imported(owner, title)):
        if store.version_of(stream_name("form", form_id)):
            return Destination(form_id, owner.pk, title), form_id == new
    return Destination(new, owner.pk, title), True


def _form_id(key: pseudonyms.Pseudonyms, title: str) -> uuid.UUID:
    return key.id(f"form\x1f{title}")


def _imported(owner: User, title: str) -> Iterator[uuid.UUID]:
    """Forms of this title that an import made elsewhere: they came with `import_events`."""
    for form in Form.objects.filter(user_id=owner.pk, title=title).order_by("created_at", "id"):
        first = store.read_stream(stream_name("form", form.pk), limit=1)
        if first and first[0].actor == suppressions.ACTOR:
            yield form.pk


def _compare(found: Destination, plan: rows.Plan, state: forms.Form) -> list[set[str]]:
    """Settle what to do with a form that is there: staff's edits stay, fields that are wholly new are added.

    A field that the form once had is missing because somebody removed it: then the import is refused, as it is where
    answers would have another shape than the form's field. Returns the sets of fields that the form had, in order.
    """
    if state.deleted_at is not None:
        raise ImportRejected(f"the form “{found.title}” was deleted; restore it or choose another title")
    history = store.read_stream(stream_name("form", found.form_id))
    asked = [{made["id"] for made in event.data["fields"]} for event in history if event.data.get("fields")]
    ever = set().union(*asked)
    have = {made["id"]: made for made in state.fields}
    wanted = [made.field for made in plan.fields]
    removed = [made["label"] for made in wanted if made["id"] in ever and made["id"] not in have]
    if removed:
        raise ImportRejected(
            f"the form “{found.title}” no longer has: {_listed(removed)}; put back or import elsewhere"
        )
    found.warnings += existing.adopt(plan, state.fields)
    _compare_types(found, [(have[made["id"]], made) for made in wanted if made["id"] in have])
    new = [made for made in wanted if made["id"] not in have]
    found.new_fields = [{name: value for name, value in made.items() if name != rows.IDENTITY} for made in new]
    return asked


def _compare_types(found: Destination, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    unlike = [made["label"] for ours, made in pairs if _shape(ours) != _shape(made)]
    if unlike:
        raise ImportRejected(
            f"answers in the file have another shape than in the form “{found.title}”: {_listed(unlike)}"
        )
    for ours, made in pairs:
        if ours["type"] != made["type"] and not {ours["type"], made["type"]} <= existing.TEXTS:
            found.warnings.append(f"“{made['label']}” is {ours['type']} in the form and {made['type']} in the file")
        had = {rows.nfc(str(option)) for option in ours.get("options") or made["options"]}
        strange = [option for option in made["options"] if rows.nfc(str(option)) not in had]
        if strange:
            found.warnings.append(f"“{made['label']}” has options that the form lacks: {_listed(strange)}")


def _shape(made: dict[str, Any]) -> str:
    return _SHAPES.get(made["type"], "value")


def _listed(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return ", ".join(f"“{label}”" for label in labels[:10]) + more


# -- which rows -------------------------------------------------------------------------------------------------------


def _match(found: Destination, plan: rows.Plan, state: forms.Form, asked: list[set[str]], *, keyed: bool) -> None:
    """Tell the rows that are there from those that are new, and keep out those of erased persons."""
    found.by, lacking = identity.column_of(plan, state.fields, keyed=keyed)
    if lacking is not None:
        raise ImportRejected(
            f"the file has no column “{lacking}”, by which the rows of the form “{found.title}” are recognised"
        )
    key = pseudonyms.of(stream_name("form", found.form_id))
    if key is None:  # stored in the clear, before there were keys: nothing there has a derived id
        key = pseudonyms.Pseudonyms(bytes(32))
    matches = identity.Matcher(plan, found.form_id, key, found.by).run(asked, keyed=keyed)
    found.known, found.changed, found.erased = matches.known, matches.changed, matches.erased
    if matches.unrecognisable:
        found.warnings.append(
            f"{matches.unrecognisable} submission(s) were erased before the form came here with its log; rows of these "
            "persons cannot be recognised: take them out of the file"
        )
    suppressed = suppressions.of(found.form_id, key, state.fields)
    if suppressed is None:
        found.fresh = matches.fresh
        return
    for one in matches.fresh:
        if suppressed.holds(one[1].answers):
            found.erased.append(one[1])
        else:
            found.fresh.append(one)


def _about_rows(found: Destination, *, update: bool) -> None:
    if found.changed and not update:
        found.warnings.append(
            f"{len(found.changed)} row(s) are there with other content and were left as they are; --update corrects "
            "them, another --form keeps both: " + rows.listed([row.line for _, row in found.changed])
        )
    if found.erased:
        lines = sorted(row.line for row in found.erased)
        found.warnings.append(
            f"{len(lines)} row(s) belong to submissions that were erased and are not imported again: "
            f"{rows.listed(lines)}"
        )


# -- checks -----------------------------------------------------------------------------------------------------------


def _check(found: Destination, plan: rows.Plan, state: forms.Form) -> None:
    """Decide and encode everything that is to be written, and throw it away. Raises `ValuesRejected`."""
    problems: list[Problem] = []
    total = 0
    for problem in _problems(found, plan, state):
        total += 1
        if total <= MAX_PROBLEMS:
            problems.append(problem)
    if total:
        raise ValuesRejected(problems, total)


def _problems(found: Destination, plan: rows.Plan, state: forms.Form) -> Iterator[Problem]:
    now = datetime.now(UTC)
    change = _form_change(plan, found, state, "")
    if change is not None and (error := _refusal(forms.AGGREGATE, change, state, now)):
        yield Problem(_message(error))
    for _, row in found.fresh:
        if error := _refusal(submissions.AGGREGATE, _received(found.form_id, row), submissions.Submission(), now):
            yield from _where(plan, row, error)
    fields = [made.field["id"] for made in plan.fields]
    for stored, row in found.changed:
        known = submissions.Submission(form_id=found.form_id, answers=stored.answers or {}, **stored.times)
        if error := _refusal(submissions.AGGREGATE, _corrected(stored, row, fields), known, now):
            yield from _where(plan, row, error)


def _refusal(
    record: aggregate.Aggregate, data: CommandData, state: Any, now: datetime
) -> errors.EventsError | ValueError | None:
    """The error with which the domain or the store would refuse this command; None when it would be stored."""
    try:
        for event in record.decide(data, state, aggregate.Decision(key="", now=now)):
            store.encode(event)
    except (errors.EventsError, ValueError) as error:
        return error
    return None


def _message(error: Exception) -> str:
    fields = getattr(error, "fields", None)
    return "; ".join(map(str, fields.values())) if fields else str(error)


def _where(plan: rows.Plan, row: rows.Row, error: Exception) -> Iterator[Problem]:
    """The cells that a refusal is about."""
    columns = {"started_at": plan.times.start, "created_at": plan.times.end or plan.times.start}
    placed = False
    for name, message in (getattr(error, "fields", None) or {}).items():
        placed = True
        yield Problem(message, row.line, columns.get(name))
    for made in () if placed else plan.fields:
        try:
            store.encode({made.field["id"]: row.answers.get(made.field["id"])})
        except errors.EventsError as wrong:
            placed = True
            yield Problem(wrong.message, row.line, made.columns[0])
    if not placed:
        yield Problem(_message(error), row.line)


# -- writing ----------------------------------------------------------------------------------------------------------


def carry_out(
    plan: rows.Plan,
    found: Destination,
    description: str = "",
    progress: Callable[[int], object] = lambda _: None,
    *,
    source: str = "import",
    archived: bool = False,
) -> int:
    """Write what the destination lacks; returns how many submissions were added. Each chunk is one transaction.

    source    where the rows come from; with the type of command it is the reason of what is written
    archived  write into the form even if it is archived

    Two at a time: while the database stores one chunk, the next is decided here.
    """
    added = 0
    acting = context.acting(actor=suppressions.ACTOR)
    accepted = preconditions.waived("archived") if archived else nullcontext()
    with memory.set_aside() as tidy, acting, accepted, ThreadPoolExecutor(WRITERS) as writers:
        key = _form(plan, found, description, source)
        chunks = _chunks(plan, found, key, source)

        def write(chunk: Sequence[Command]) -> Future[tuple[int, int]]:
            return writers.submit(copy_context().run, _write, chunk)

        under_way = {write(chunk) for chunk in islice(chunks, WRITERS)}
        while under_way:
            finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for done in finished:
                size, new = done.result()
                added += new
                tidy()
                progress(size)  # may interrupt us: then no further chunk is begun
                under_way |= {write(chunk) for chunk in islice(chunks, 1)}
    return added


def _chunks(plan: rows.Plan, found: Destination, key: pseudonyms.Pseudonyms, source: str) -> Iterator[list[Command]]:
    """The commands, a chunk at a time: new rows first, then corrections. Sent again, a command has the same id."""
    reason = _reason(source, "submission.receive")
    for start in range(0, len(found.fresh), CHUNK):
        chunk = [(str(identity.id_of(key, one)), row) for one, row in found.fresh[start : start + CHUNK]]
        yield [
            Command(id=key.id(f"receive\x1f{at}"), key=at, data=_received(found.form_id, row), reason=reason)
            for at, row in chunk
        ]
    fields = [made.field["id"] for made in plan.fields]
    for start in range(0, len(found.changed), CHUNK):
        yield [
            _change(key, stored.id, stored.version, _corrected(stored, row, fields), source)
            for stored, row in found.changed[start : start + CHUNK]
        ]


def _change(key: pseudonyms.Pseudonyms, record: uuid.UUID, version: int, data: CommandData, source: str) -> Command:
    """A change of a version to this content."""
    content = msgspec.json.encode(data, order="deterministic").decode()
    name = command_type_of(type(data)).name
    return Command(
        id=key.id(f"change\x1f{record}\x1f{version}\x1f{content}"),
        key=str(record),
        data=data,
        reason=_reason(source, name),
    )


def _reason(source: str, kind: str) -> str:
    """The source gives way where both are too long for a reason."""
    return f"{source[: encryption.MAX_REASON - len(kind) - 1]} {kind}"


def _write(chunk: Sequence[Command]) -> tuple[int, int]:
    """One chunk in one transaction; how many commands it had, and how many submissions were added."""
    try:
        results = commands.dispatch_many(chunk)
    finally:
        connection.close()  # back to the pool: this thread has no request whose end would see to it
    received = [isinstance(command.data, submissions.ReceiveSubmission) for command in chunk]
    return len(chunk), sum(r.status == "applied" and new for r, new in zip(results, received, strict=True))


def _form(plan: rows.Plan, found: Destination, description: str, source: str) -> pseudonyms.Pseudonyms:
    """Make the form, or add what it lacks; returns the key of its submissions' ids."""
    if found.version == 0:
        found.form_id = _form_id(pseudonyms.make(stream_name("user", found.owner_id)), found.title)
    subject = stream_name("form", found.form_id)
    state, version = snapshots.state(subject)
    change = _form_change(plan, found, state, description)
    if change is not None and (found.version == 0 or found.fresh or found.changed):
        owner = pseudonyms.make(stream_name("user", found.owner_id))
        commands.dispatch(_change(owner, found.form_id, version, change, source))
    return pseudonyms.make(subject)


def _form_change(plan: rows.Plan, found: Destination, state: forms.Form, description: str) -> CommandData | None:
    if found.version == 0:
        fields = [made.field for made in plan.fields]
        return forms.CreateForm(user_id=found.owner_id, title=found.title, description=description, fields=fields)
    if found.new_fields:
        return forms.UpdateForm(fields=[*state.fields, *found.new_fields])
    return None


def _received(form_id: uuid.UUID, row: rows.Row) -> submissions.ReceiveSubmission:
    return submissions.ReceiveSubmission(
        form_id=form_id,
        answers=row.answers,
        started_at=row.started_at,
        completion_time=row.completion_time,
        created_at=row.created_at,
    )


def _corrected(stored: identity.Stored, row: rows.Row, fields: Sequence[str]) -> submissions.CorrectSubmission:
    return submissions.CorrectSubmission(
        answers=identity.merged(stored, row, fields), **identity.changed_times(stored, row)
    )
