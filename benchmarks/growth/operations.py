"""Operations whose cost must not grow with the data around them: rows read, statements and time at several sizes.

Each is prepared for a number of versions, events, records or submissions, measured in a transaction that is rolled
back, and compared between the first and the last size. Where the work itself has that size (purge, export), the cost is
that of one submission.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from backoffice import listing, models
from backoffice.sections.forms import domain as forms
from backoffice.sections.privacy import erasure, export
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from benchmarks import harness
from benchmarks.growth.counting import rows_read, statements
from events import commands, context, search, snapshot_upkeep, snapshots, store
from events.archive import writer
from events.types import Command, new_id

GROWS: Final = 1.5  # ratio of two sizes above which a cost grows
SLACK: Final = {"rows": 60, "statements": 1}  # for the depth of an index, and pages that are cut elsewhere
ROUNDS: Final = 5
START: Final = datetime(2020, 1, 1, tzinfo=UTC)


class Operation(NamedTuple):
    """`prepare` makes the data for a size, and returns the call to measure and the units of work that it does."""

    name: str
    prepare: Callable[[int], tuple[Callable[[], Any], int]]


# -- records ----------------------------------------------------------------------------------------------------------


def _dispatch(*data: tuple[Any, uuid.UUID]) -> None:
    commands.dispatch_many([Command(id=new_id(), key=str(key), data=one) for one, key in data])


def _user() -> uuid.UUID:
    key = new_id()
    _dispatch((users.CreateUser(email=f"{key}@example.org"), key))
    return key


def write_to_record(size: int) -> tuple[Callable[[], Any], int]:
    """A write to a record whose versions were made by batches."""
    key = _user()
    for _ in range(0, size, 100):
        _dispatch(*[(users.UpdateUser(first_name=str(number)), key) for number in range(100)])

    def write() -> None:
        commands.dispatch(Command(id=new_id(), key=str(key), data=users.UpdateUser(first_name="last")))

    return write, 1


HOURLY: Final = """
with made as (
    insert into events_event (stream, version, type, data, event_id, recorded_at, actor, hash)
    select %(stream)s, n, 'setting.changed', jsonb_build_object('value', n), gen_random_uuid(),
           %(start)s::timestamptz + n * interval '1 hour', 'system', '\\x00' from generate_series(1, %(size)s) n
    returning version)
insert into events_stream (stream, version, hash) select %(stream)s, max(version), '\\x00' from made
"""


def _hourly(size: int) -> str:
    """A setting with an event for each hour, and the snapshots that the daily task takes."""
    stream = f"setting-{new_id()}"
    with connection.cursor() as cursor:
        cursor.execute(HOURLY, {"stream": stream, "start": START, "size": size})
    snapshot_upkeep.refresh()
    return stream


def state_at_version(size: int) -> tuple[Callable[[], Any], int]:
    stream = _hourly(size)
    return lambda: snapshots.folded(stream, size - snapshot_upkeep.SPACING // 2), 1


def state_at_instant(size: int) -> tuple[Callable[[], Any], int]:
    stream, at = _hourly(size), START + timedelta(hours=size - snapshot_upkeep.SPACING // 2)
    return lambda: snapshots.folded(stream, at=at), 1


# -- the log ----------------------------------------------------------------------------------------------------------


def rare_type(_size: int) -> tuple[Callable[[], Any], int]:
    """A search for a type without events, in a log that the other operations have grown."""
    upto = store.query("select max(position) from events_event")[0][0]
    return lambda: search.read_stretch(0, 100, upto=upto, types=["log.restored"]), 1


def one_request(size: int) -> tuple[Callable[[], Any], int]:
    """The first events of all that one request caused."""
    correlation, key = uuid.uuid4(), _user()
    with context.acting(correlation_id=correlation):
        for start in range(0, size, 1_000):
            events = [users.UserUpdated(first_name=str(number)) for number in range(start, start + 1_000)]
            store.append(f"user-{key}", events)
    return lambda: search.events_of_request(correlation, upto=2**62, limit=200), 1


def archive(size: int) -> tuple[Callable[[], Any], int]:
    """The snapshots of a partition with that many streams."""
    _received(size, 1)
    part = writer.parts()[0]
    return lambda: writer._snapshot(part, writer.ignore_progress), 1


# -- lists ------------------------------------------------------------------------------------------------------------

FILL: Final = """
insert into users (id, email, first_name, last_name, plan, role, created_at, deleted_at, version, updated_at)
select gen_random_uuid(), 'person' || n || '-' || gen_random_uuid() || '@example.org',
       case when n <= 50 then 'Zq' else 'Ada' end, 'Last' || n, 'free',
       case when n <= 60 then 'owner' else 'member' end,
       now() - n * interval '1 minute', case when n between 100 and 150 then now() end, 1, now()
  from generate_series(1, %s) n
"""


def a_list(**question: Any) -> Callable[[int], tuple[Callable[[], Any], int]]:
    def prepare(size: int) -> tuple[Callable[[], Any], int]:
        with connection.cursor() as cursor:
            cursor.execute("delete from users where email like 'person%%'")
            cursor.execute(FILL, [10 * size])
            cursor.execute("analyze users")
        return lambda: listing.page("users", count=False, **question), 1

    return prepare


# -- privacy ----------------------------------------------------------------------------------------------------------


def _received(size: int, owners: int) -> list[uuid.UUID]:
    found = []
    for _ in range(owners):
        user, form = _user(), new_id()
        _dispatch((forms.CreateForm(user_id=user, title="A form"), form))
        for start in range(0, size, 500):
            received = submissions.ReceiveSubmission(form_id=form, answers={"q": "lorem ipsum dolor"})
            _dispatch(*[(received, new_id()) for _ in range(start, min(start + 500, size))])
        found.append(user)
    return found


def purge(size: int) -> tuple[Callable[[], Any], int]:
    (user,) = _received(size, 1)
    subjects = [f"form-{form}" for form in models.Form.objects.filter(user_id=user).values_list("pk", flat=True)]

    def sweep() -> None:
        place = None
        while True:
            _, place = erasure._sweep_answers(subjects, 500, place)
            if place is None:
                return

    return sweep, size


def person_export(size: int) -> tuple[Callable[[], Any], int]:
    (key,) = _received(size, 1)
    user = models.User.objects.get(pk=key)
    return lambda: sum(len(part) for part in export.parts(user)), size


OPERATIONS: Final = (
    Operation("write to a record with that many versions", write_to_record),
    Operation("state at an old version", state_at_version),
    Operation("state as of an instant", state_at_instant),
    Operation("events of a type without any", rare_type),
    Operation("what one request caused", one_request),
    Operation("snapshots of an archived partition", archive),
    Operation("list: deleted users", a_list(filters={"deleted": "true"})),
    Operation("list: users by role", a_list(filters={"role": "owner"})),
    Operation("list: two letters", a_list(search="zq")),
    Operation("list: one letter", a_list(search="z")),
    Operation("purge, a submission", purge),
    Operation("personal-data export, a submission", person_export),
)


# -- measuring --------------------------------------------------------------------------------------------------------


class RollBack(Exception):
    """Ends a transaction without keeping its changes."""


def _undone(measure: Callable[[], float]) -> float:
    found = 0.0
    try:
        with transaction.atomic():
            found = measure()
            raise RollBack
    except RollBack:
        return found


def _milliseconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1_000


def cost(operation: Operation, size: int) -> dict[str, Any]:
    """Rows read, statements and the median of milliseconds, each for one unit of work."""
    call, units = operation.prepare(size)
    with connection.cursor() as cursor:
        cursor.execute("analyze events_event, events_stream, events_snapshot, submissions, forms")
    _undone(lambda: _milliseconds(call))
    return {
        "operation": operation.name,
        "size": size,
        "rows": _undone(lambda: rows_read(call)) / units,
        "statements": _undone(lambda: statements(call)) / units,
        "ms": statistics.median(_undone(lambda: _milliseconds(call)) for _ in range(ROUNDS)) / units,
    }


def run(sizes: Sequence[int]) -> list[str]:
    """Measure all operations at each size; returns the names of those whose cost grows from the first to the last."""
    setattr(search, "REACH", sizes[0])  # noqa: B010 - a constant; the first size shall reach it
    grown, rows = [], []
    for operation in OPERATIONS:
        found = [cost(operation, size) for size in sizes]
        rows += found
        if any(found[-1][name] > found[0][name] * GROWS + slack for name, slack in SLACK.items()):
            grown.append(operation.name)
    harness.table("Operations that must not grow", rows)
    harness.save("growth_operations", {"rows": rows, "grown": grown})
    return grown
