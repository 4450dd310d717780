"""Two writers and a reader, in every order of their steps: nothing is skipped, stored twice or out of order."""

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
    """Four: two writers, a reader, and one to ask who waits."""
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

# What the writers do: their steps, {run} made unique in each order.
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
    """The same statements for another run: other streams, other event ids."""
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


# What `events_head` says second, here a statement of its own, so that others can come in between.
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
    """The three steps of a reader (events/head.py), one statement each."""
    return [
        head.LAST_SQL,
        lambda actor: SAFE.format(last=actor.said[0][0][0]),
        lambda actor: rows_between(after, int(actor.said[1][0][0])),
    ]


def reading_as_we_do(after: int) -> list[Step]:
    """The same, as `head.safe` and `store.read_all` say it."""
    return [
        "begin",
        "select o_safe from events_head()",
        lambda actor: rows_between(after, int(actor.said[1][0][0])),
    ]


def naive(after: int) -> list[Step]:
    """What everybody would write: as far as the sequence is, in a statement of its own."""
    return [head.LAST_SQL, "select 1", lambda actor: rows_between(after, int(actor.said[0][0][0]))]


def rows_between(after: int, upto: int) -> str:
    """First how far that is, then the positions."""
    rows = f"select position from events_event where position > {after} and position <= {upto} order by 1"
    return f"select {upto} union all ({rows})"


def found_wrong(sessions: list[psycopg.Connection], scene: str, reader: Callable[[int], list[Step]]) -> list[str]:
    """Play the scene in every order; what a reader missed, and what is in the wrong order, with the order it took."""
    first, second = SCENES[scene]
    wrong: list[str] = []
    *workers, judge = sessions
    for order in interleaving.orders((len(first), len(second), 3), SAMPLE, seed=7):
        after, run = store.query("select coalesce(max(position), 0) from events_event")[0][0], str(new_id())
        steps = [fresh(first, run), fresh(second, run), reader(after)]
        actors = [Actor(name, session, judge, mine) for name, session, mine in zip("abr", workers, steps, strict=True)]
        interleaving.play(actors, order)
        for session in workers:
            session.execute("rollback" if session.info.transaction_status else "select 1")
        wrong += [f"{order}: {said}" for said in judged(actors, after)]
    return wrong


def judged(actors: Sequence[Actor], after: int) -> list[str]:
    """The reader against the log as it is when all is quiet."""
    *_, reader = actors
    stored = store.query("select position, stream, version from events_event where position > %s order by 1", (after,))
    upto, *read = (int(position) for (position,) in reader.said[2])
    complete = [position for position, _, _ in stored if position <= upto]
    wrong = [] if read == complete else [f"up to {upto} it read {read}, there is {complete}"]
    versions: dict[str, list[int]] = {}
    for _, stream, version in stored:
        versions.setdefault(stream, []).append(version)
    wrong += [f"{stream} has {found}" for stream, found in versions.items() if found != list(range(1, len(found) + 1))]
    acknowledged = sum(len(rows) for actor in actors[:2] for rows in kept(actor))
    return wrong + ([] if len(stored) == acknowledged else [f"{acknowledged} acknowledged, {len(stored)} stored"])


def kept(actor: Actor) -> list[Any]:
    """The rows a writer was told of and did not roll back."""
    told = list(zip(actor.steps, actor.said, strict=True))
    if any(step == "rollback" for step, _ in told) or any(isinstance(said, str) for _, said in told):
        return []
    back = next((n for n, (step, _) in enumerate(told) if step == "rollback to s"), None)
    return [said for n, (_, said) in enumerate(told) if said and (back is None or n != back - 1)]


@pytest.mark.parametrize("scene", SCENES)
def test_in_no_order_of_the_steps_is_an_event_missed(sessions: list[psycopg.Connection], scene: str) -> None:
    assert found_wrong(sessions, scene, reading) == []


def test_nor_where_the_first_two_steps_are_one_statement(sessions: list[psycopg.Connection]) -> None:
    """In a transaction too: its statements, and those of the function, each see what was committed before them."""
    assert found_wrong(sessions, "two records", reading_as_we_do) == []


def test_the_same_explorer_finds_what_a_naive_reader_misses(sessions: list[psycopg.Connection]) -> None:
    assert found_wrong(sessions, "two records", naive)
