"""Two writers and a reader in every order of their steps: no event is skipped, repeated or reordered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from django.db import connection

from events import head, store
from events.types import new_id
from tests.events import interleaving
from tests.events.interleaving import Actor, Step

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(7200 if interleaving.LONG else 120)]

SAMPLE = 30


@pytest.fixture
def sessions() -> Iterator[list[psycopg.Connection]]:
    """Four sessions: two writers, a reader, and one that queries which sessions wait."""
    known = {k: v for k, v in connection.get_connection_params().items() if k in {"host", "port", "user", "dbname"}}
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(psycopg.connect(**known, autocommit=True)) for _ in range(4)]


def append(stream: str, expected: str = "null") -> str:
    return (
        f"select o_version, o_position from events_append_one('{stream}', {expected}, 'user.updated', 1::smallint, "
        f"'{{}}', '{new_id()}', 'system', null, null, null, '{{}}')"
    )


def append_to(*streams: str) -> str:
    named = ", ".join(f"'{name}'" for name in streams)
    ids = ", ".join(f"'{new_id()}'" for _ in streams)
    return (
        f"select o_version, o_position from events_append_each(array[{named}], '{{null,null}}', "
        f"'{{user.updated,user.updated}}', '{{1,1}}', array['{{}}', '{{}}']::jsonb[], array[{ids}]::uuid[], "
        "'system', null, null, null, '{}') order by 2"
    )


def copied(stream: str) -> str:
    return (
        "insert into events_event (stream, version, type, data, event_id, actor, hash) "
        f"select '{stream}', 1, 'user.updated', '{{}}', '{new_id()}', 'system', '' returning version, position"
    )


A, B = "user-a-{run}", "user-b-{run}"

# Name -> the steps of both writers; {run} is replaced by a unique text in each run.
SCENES: dict[str, tuple[list[str], list[str]]] = {
    "two records": ([f"begin; {append(A)}", "commit"], [f"begin; {append(B)}", "commit"]),
    "one rolls back": ([f"begin; {append(A)}", "rollback"], [f"begin; {append(B)}", "commit"]),
    "one record": ([f"begin; {append(A)}", "commit"], [f"begin; {append(A)}", "commit"]),
    "both create it": ([f"begin; {append(A, '0')}", "commit"], [f"begin; {append(A, '0')}", "commit"]),
    "a savepoint": (
        [f"begin; {append(A)}", f"savepoint s; {append(A)}", "rollback to s", append(A), "commit"],
        [f"begin; {append(B)}", "commit"],
    ),
    "several at once": ([f"begin; {append_to(A, B)}", "commit"], [f"begin; {append_to(B, A)}", "commit"]),
    "behind the functions": ([f"begin; {copied(A)}", "commit"], [f"begin; {append(B)}", "commit"]),
}


def fresh(steps: Sequence[str], run: str) -> list[Step]:
    """The statements with stream names and event ids of their own, for another run."""
    found: list[Step] = []
    for step in steps:
        text = step.replace("{run}", run)
        for part in text.split("'"):
            if len(part) == 36 and part.count("-") == 4:
                text = text.replace(part, str(new_id()))
        for part in text.split('"'):
            if len(part) == 36 and part.count("-") == 4:
                text = text.replace(part, str(new_id()))
        found.append(text)
    return found


# The second step of `events_head` as a separate statement, so that other steps can run between the two.
SAFE = """
select coalesce((
    select position from events_event
     where position <= least({last}, (
           select min(((classid::bigint & 65535) << 32) | objid::bigint) from pg_locks
            where locktype = 'advisory' and objsubid = 1 and (classid::bigint >> 16) = 17779
              and database = (select oid from pg_database where datname = current_database())))
     order by position desc limit 1), 0)
"""


def reading(after: int) -> list[Step]:
    """The three steps of a reader (events/head.py), each a separate statement."""
    return [
        head.LAST_SQL,
        lambda actor: SAFE.format(last=actor.results[0][0][0]),
        lambda actor: rows_between(after, int(actor.results[1][0][0])),
    ]


def reading_with_head_function(after: int) -> list[Step]:
    """The steps of a reader with the statements of `head.safe` and `store.read_all`, in one transaction."""
    return [
        "begin",
        "select o_safe from events_head()",
        lambda actor: rows_between(after, int(actor.results[1][0][0])),
    ]


def naive(after: int) -> list[Step]:
    """The obvious but wrong reader: reads up to the sequence's last value."""
    return [head.LAST_SQL, "select 1", lambda actor: rows_between(after, int(actor.results[0][0][0]))]


def rows_between(after: int, upto: int) -> str:
    """Selects `upto`, then the positions in (after, upto]."""
    rows = f"select position from events_event where position > {after} and position <= {upto} order by 1"
    return f"select {upto} union all ({rows})"


def violations(sessions: list[psycopg.Connection], scene: str, reader: Callable[[int], list[Step]]) -> list[str]:
    """Run the scene in every order; returns the events missed or out of order, with the order run."""
    first, second = SCENES[scene]
    found: list[str] = []
    *workers, observer = sessions
    for order in interleaving.orders((len(first), len(second), 3), SAMPLE, seed=7):
        after, run = store.query("select coalesce(max(position), 0) from events_event")[0][0], str(new_id())
        steps = [fresh(first, run), fresh(second, run), reader(after)]
        actors = [
            Actor(name, session, observer, mine) for name, session, mine in zip("abr", workers, steps, strict=True)
        ]
        interleaving.run(actors, order)
        for session in workers:
            session.execute("rollback" if session.info.transaction_status else "select 1")
        found += [f"{order}: {violation}" for violation in compare(actors, after)]
    return found


def compare(actors: Sequence[Actor], after: int) -> list[str]:
    """Compare the positions that the reader got with the log after all actors have finished."""
    *_, reader = actors
    stored = store.query("select position, stream, version from events_event where position > %s order by 1", (after,))
    upto, *read = (int(position) for (position,) in reader.results[2])
    complete = [position for position, _, _ in stored if position <= upto]
    wrong = [] if read == complete else [f"up to {upto} it read {read}, there is {complete}"]
    versions: dict[str, list[int]] = {}
    for _, stream, version in stored:
        versions.setdefault(stream, []).append(version)
    wrong += [f"{stream} has {found}" for stream, found in versions.items() if found != list(range(1, len(found) + 1))]
    acknowledged = sum(len(rows) for actor in actors[:2] for rows in committed(actor))
    return wrong + ([] if len(stored) == acknowledged else [f"{acknowledged} acknowledged, {len(stored)} stored"])


def committed(actor: Actor) -> list[Any]:
    """The rows that a writer appended and did not roll back."""
    done = list(zip(actor.steps, actor.results, strict=True))
    if any(step == "rollback" for step, _ in done) or any(isinstance(result, str) for _, result in done):
        return []
    back = next((n for n, (step, _) in enumerate(done) if step == "rollback to s"), None)
    return [result for n, (_, result) in enumerate(done) if result and (back is None or n != back - 1)]


@pytest.mark.parametrize("scene", SCENES)
def test_reader_misses_no_event_in_any_order_of_the_steps(sessions: list[psycopg.Connection], scene: str) -> None:
    assert violations(sessions, scene, reading) == []


def test_reader_in_a_transaction_misses_no_event(sessions: list[psycopg.Connection]) -> None:
    """Each statement of the transaction, and each of the function, sees all rows committed before it."""
    assert violations(sessions, "two records", reading_with_head_function) == []


def test_events_missed_by_a_naive_reader_are_detected(sessions: list[psycopg.Connection]) -> None:
    assert violations(sessions, "two records", naive)
