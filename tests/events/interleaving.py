"""Runs the steps of several sessions in every possible order, on real connections.

An actor is a session with steps, each a statement. An order lists which actor runs its next step. A step that waits for
a lock stays pending while the others continue; `pg_blocking_pids` shows that it waits. So an order runs the same way
each time, without a clock.
"""

from __future__ import annotations

import os
import random
import select
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import pq

LONG = os.environ.get("LONG") == "1"  # `make chaos`: every order, instead of a sample of them

Step = str | Callable[["Actor"], str]

WAITS = "select cardinality(pg_blocking_pids(%s)) > 0"


class Actor:
    """A session and its steps, in order; `results` holds the rows, or the SQLSTATE, of each completed step."""

    def __init__(
        self, name: str, session: psycopg.Connection, observer: psycopg.Connection, steps: Sequence[Step]
    ) -> None:
        self.name, self.steps, self.results = name, list(steps), list[Any]()
        self._session, self._observer = session.pgconn, observer
        self._requested, self._sent = 0, 0

    def step(self) -> None:
        """Request the next step; it is sent as soon as the one before it has completed."""
        self._requested += 1
        self.advance()

    def advance(self) -> None:
        """Collect results and send requested steps, as far as possible without waiting for another actor."""
        while True:
            if self._sent > len(self.results):
                if not self._is_complete():
                    return
                self.results.append(self._result())
            if not self._requested or self._sent == len(self.steps):
                return
            step = self.steps[self._sent]
            self._session.send_query((step if isinstance(step, str) else step(self)).encode())
            self._requested -= 1
            self._sent += 1

    @property
    def done(self) -> bool:
        return len(self.results) == len(self.steps)

    def _is_complete(self) -> bool:
        """Wait for the result; False when the step waits for a lock that another session holds."""
        while True:
            self._session.consume_input()
            if not self._session.is_busy():
                return True
            if select.select([self._session.socket], [], [], 0.002)[0]:
                continue
            row = self._observer.execute(WAITS, (self._session.backend_pid,)).fetchone()
            if row is not None and row[0]:
                return False

    def _result(self) -> Any:
        """The rows of the step's last statement, as text, or the SQLSTATE of its error."""
        rows: Any = []
        while (result := self._session.get_result()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                rows = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            elif result.status == pq.ExecStatus.TUPLES_OK and not isinstance(rows, str):
                rows = [
                    tuple((result.get_value(row, column) or b"").decode() for column in range(result.nfields))
                    for row in range(result.ntuples)
                ]
        return rows


def run(actors: Sequence[Actor], order: Sequence[int]) -> None:
    """Run the steps in one order, until all have completed."""
    for number in order:
        actors[number].step()
        for other in actors:
            other.advance()
    while not all(actor.done for actor in actors):  # this ends, because PostgreSQL detects deadlocks
        for actor in actors:
            actor.advance()


def orders(counts: Sequence[int], sample: int, seed: int) -> Iterator[tuple[int, ...]]:
    """All orders of steps, given the number of steps of each actor; without LONG a seeded sample."""
    every = list(_merges(tuple(counts)))
    if not LONG and len(every) > sample:
        every = random.Random(seed).sample(every, sample)
    yield from every


def _merges(left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not any(left):
        yield ()
    for number, count in enumerate(left):
        if count:
            rest = tuple(n - (i == number) for i, n in enumerate(left))
            yield from ((number, *later) for later in _merges(rest))
