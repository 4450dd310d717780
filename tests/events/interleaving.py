"""Every order in which the steps of several sessions can happen, one after the other, on real connections.

An actor is a session with steps, each a statement. An order says whose step is next; a step that waits for a lock of
somebody is left waiting, which PostgreSQL itself says (`pg_blocking_pids`), and the others go on. So an order is played
the same way each time, without a clock.
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
    """A session and what it does, in order; `said` holds the rows, or the SQLSTATE, that each step came back with."""

    def __init__(
        self, name: str, session: psycopg.Connection, judge: psycopg.Connection, steps: Sequence[Step]
    ) -> None:
        self.name, self.steps, self.said = name, list(steps), list[Any]()
        self._session, self._judge = session.pgconn, judge
        self._owed, self._sent = 0, 0

    def step(self) -> None:
        """The next step, as soon as the one before it has come back."""
        self._owed += 1
        self.go_on()

    def go_on(self) -> None:
        """What can be done without waiting for another actor."""
        while True:
            if self._sent > len(self.said):
                if not self._came_back():
                    return
                self.said.append(self._result())
            if not self._owed or self._sent == len(self.steps):
                return
            step = self.steps[self._sent]
            self._session.send_query((step if isinstance(step, str) else step(self)).encode())
            self._owed -= 1
            self._sent += 1

    @property
    def done(self) -> bool:
        return len(self.said) == len(self.steps)

    def _came_back(self) -> bool:
        """True with its result, False while it waits for a lock that somebody holds."""
        while True:
            self._session.consume_input()
            if not self._session.is_busy():
                return True
            if select.select([self._session.socket], [], [], 0.002)[0]:
                continue
            row = self._judge.execute(WAITS, (self._session.backend_pid,)).fetchone()
            if row is not None and row[0]:
                return False

    def _result(self) -> Any:
        """The rows of the last statement of the step, as text, or the SQLSTATE of what failed."""
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


def play(actors: Sequence[Actor], order: Sequence[int]) -> None:
    """One order, to the end."""
    for number in order:
        actors[number].step()
        for other in actors:
            other.go_on()
    while not all(actor.done for actor in actors):  # nobody who waits does so for ever: PostgreSQL sees deadlocks
        for actor in actors:
            actor.go_on()


def orders(counts: Sequence[int], sample: int, seed: int) -> Iterator[tuple[int, ...]]:
    """All merges of so many steps of each actor; in the short form a sample of them, always the same of one seed."""
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
