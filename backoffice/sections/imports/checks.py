"""Finds all values that the domain or the store would refuse, before the first write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backoffice.sections.forms import domain as forms
from backoffice.sections.imports import content, rows
from backoffice.sections.imports.destinations import Destination, ImportRejected
from backoffice.sections.imports.headers import Column
from backoffice.sections.submissions import domain as submissions
from events import aggregate, encoding, errors
from events.types import CommandData

MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that cannot be stored, with its place in the file and the reason.

    Without a line it concerns the form.
    """

    message: str
    line: int | None = None
    column: Column | None = None

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line else []
        if self.column is not None:
            where.append(f"column {self.column.index + 1} (“{self.column.label[:60]}”)")
        return f"{', '.join(where)}: {self.message}" if where else self.message


class ValuesRejected(ImportRejected):
    """The domain or the store refuses values; `problems` has the first of them."""

    def __init__(self, problems: Sequence[Problem], total: int) -> None:
        self.problems, self.total = problems, total
        lines = [*map(str, problems), *([f"and {total - len(problems)} more"] if total > len(problems) else ())]
        text = lines[0] if total == 1 else f"{total} values cannot be stored:\n  " + "\n  ".join(lines)
        super().__init__(f"{text}\nNothing was written.")


def check(found: Destination, plan: rows.Plan, state: forms.Form) -> None:
    """Decides and encodes everything that would be written, without writing it. Raises `ValuesRejected`."""
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
    change = content.form_change(plan, found, state, "")
    if change is not None and (error := _refusal(forms.AGGREGATE, change, state, now)):
        yield Problem(_message(error))
    for _, row in found.fresh:
        if error := _refusal(
            submissions.AGGREGATE, content.received(found.form_id, row), submissions.Submission(), now
        ):
            yield from _where(plan, row, error)
    fields = [made.field["id"] for made in plan.fields]
    for stored, row in found.changed:
        known = submissions.Submission(form_id=found.form_id, answers=stored.answers or {}, **stored.times)
        if error := _refusal(submissions.AGGREGATE, content.corrected(stored, row, fields), known, now):
            yield from _where(plan, row, error)


def _refusal(
    record: aggregate.Aggregate, data: CommandData, state: Any, now: datetime
) -> errors.EventsError | ValueError | None:
    """Returns the error with which the domain or the store would refuse this command; None if there is none."""
    try:
        for event in record.decide(data, state, aggregate.Decision(key="", now=now)):
            encoding.encode(event)
    except (errors.EventsError, ValueError) as error:
        return error
    return None


def _message(error: Exception) -> str:
    fields = getattr(error, "fields", None)
    return "; ".join(map(str, fields.values())) if fields else str(error)


def _where(plan: rows.Plan, row: rows.Row, error: Exception) -> Iterator[Problem]:
    """Yields a problem for each cell that caused the error; one for the row if no cell is known."""
    columns = {"started_at": plan.times.start, "created_at": plan.times.end or plan.times.start}
    placed = False
    for name, message in (getattr(error, "fields", None) or {}).items():
        placed = True
        yield Problem(message, row.line, columns.get(name))
    for made in () if placed else plan.fields:
        try:
            encoding.encode({made.field["id"]: row.answers.get(made.field["id"])})
        except errors.EventsError as wrong:
            placed = True
            yield Problem(wrong.message, row.line, made.columns[0])
    if not placed:
        yield Problem(_message(error), row.line)
