"""Lists, records and figures read over HTTP, first without writers, then while they run.

Each reader has a connection of its own and reads one address after the other. An answer is wrong when it is refused,
when the position of its figures goes back, or when it counts fewer submissions than before; at the end, a consistent
read must count every submission that was written.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from typing import Any, Final
from uuid import UUID

from benchmarks.load.clients import PROJECT, quantile, server_process

USERS: Final = 300
READERS: Final = 8
WRITERS: Final = 2
RATE: Final = 50.0  # commands a second and writer

PATHS: Final = {
    "list by date": "users/",
    "list by count": "users/?sort=-submission_count",
    "list by last use": "forms/?sort=-last_submission_at",
    "search": "users/?search=customer",
    "record": "users/{user}/",
    "figures of days": "metrics/forms/?range=90d",
    "figures of users": "metrics/users/",
}
DAYS: Final = "figures of days"


class Reader:
    """A client that keeps one connection; `taken` has the seconds of each read, by its name."""

    def __init__(self, port: int, cookie: str, user: UUID) -> None:
        self.port, self.cookie, self.user = port, cookie, user
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []
        self.position = self.submissions = 0

    async def run(self, until: float) -> None:
        self.connection = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            while time.perf_counter() < until:
                for name, path in PATHS.items():
                    started = time.perf_counter()
                    status, body = await self.get(path.format(user=self.user))
                    self.taken[name].append(time.perf_counter() - started)
                    self.check(name, status, body)
        finally:
            self.connection[1].close()

    async def get(self, path: str) -> tuple[int, Any]:
        reader, writer = self.connection
        host = f"Host: 127.0.0.1:{self.port}\r\nCookie: sessionid={self.cookie}\r\n"
        writer.write(f"GET /api/v1/{path} HTTP/1.1\r\n{host}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split(" ", 2)[1]), json.loads(await reader.readexactly(length))

    def check(self, name: str, status: int, body: Any) -> None:
        if status != 200:
            self.wrong.append(f"{name}: {status} {body.get('code')}")
        elif name == DAYS:
            position, submissions = body["as_of"]["position"], submissions_of(body)
            if position < self.position or submissions < self.submissions:
                self.wrong.append(f"{name}: {submissions} at {position} after {self.submissions} at {self.position}")
            self.position, self.submissions = position, submissions


def submissions_of(body: Any) -> int:
    return sum(row["submissions"] for row in body["items"])


class Writer(threading.Thread):
    """Receives submissions and changes users until `stop` is set."""

    def __init__(self, users: list[UUID], forms: list[UUID], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.users, self.forms, self.stop, self.received = users, forms, stop, 0

    def run(self) -> None:
        from django.db import connection

        from backoffice.sections.submissions.domain import ReceiveSubmission
        from backoffice.sections.users.domain import UpdateUser
        from events import commands, types

        number = 0
        while not self.stop.wait(1 / RATE):
            number += 1
            data: Any = ReceiveSubmission(form_id=self.forms[number % len(self.forms)], answers={}, completion_time=1.5)
            key = types.new_id()
            if number % 4 == 0:
                key, data = self.users[number % len(self.users)], UpdateUser(first_name=f"Name {number}")
            commands.dispatch(types.Command(id=types.new_id(), key=str(key), data=data))
            self.received += number % 4 != 0
        connection.close()


def create_records() -> tuple[list[UUID], list[UUID]]:
    """Create users with a form each, and refresh the views once; returns the ids of both."""
    from backoffice.sections.forms.domain import CreateForm
    from backoffice.sections.users.domain import CreateUser
    from events import commands, types
    from metrics.materialized import refresh

    users, forms = ([types.new_id() for _ in range(USERS)] for _ in range(2))
    made: list[types.Command] = [
        types.Command(id=types.new_id(), key=str(key), data=CreateUser(email=f"customer-{key}@example.org"))
        for key in users
    ]
    made += [
        types.Command(id=types.new_id(), key=str(form), data=CreateForm(user_id=user, title="A form"))
        for user, form in zip(users, forms, strict=True)
    ]
    commands.dispatch_many(made)
    refresh.refresh_all(force=True)
    return users, forms


async def measure(session: str, seconds: float) -> dict[str, Any]:
    """Read for some seconds without writers and for as long with them; returns rows and wrong answers."""
    users, forms = await asyncio.to_thread(create_records)
    subscriptions = subprocess.Popen([sys.executable, "manage.py", "run_subscriptions"], cwd=PROJECT)
    try:
        async with server_process("app") as (port, _control):
            await read(port, session, users, 1.0)  # connections, plans and imports
            idle = await read(port, session, users, seconds)
            stop = threading.Event()
            writers = [Writer(users, forms, stop) for _ in range(WRITERS)]
            for writer in writers:
                writer.start()
            busy = await read(port, session, users, seconds)
            stop.set()
            for writer in writers:
                await asyncio.to_thread(writer.join, 30)
            received = sum(writer.received for writer in writers)
            counted = await consistent(port, session, users[0])
    finally:
        subscriptions.terminate()
        subscriptions.wait()
    wrong = [each for reader in (*idle, *busy) for each in reader.wrong]
    if counted != received:
        wrong.append(f"{counted} submissions were counted of {received}")
    return {"rows": rows(idle, busy, seconds), "commands": round(received / 0.75), "wrong": wrong}


async def read(port: int, session: str, users: list[UUID], seconds: float) -> list[Reader]:
    readers = [Reader(port, session, user) for user in users[:READERS]]
    until = time.perf_counter() + seconds
    await asyncio.gather(*(reader.run(until) for reader in readers))
    return readers


async def consistent(port: int, session: str, user: UUID) -> int:
    """The number of submissions that a consistent read counts; -1 when it fails."""
    reader = Reader(port, session, user)
    reader.connection = await asyncio.open_connection("127.0.0.1", port)
    status, body = await reader.get("metrics/forms/?range=90d&consistent=1")
    reader.connection[1].close()
    return submissions_of(body) if status == 200 else -1


def rows(idle: list[Reader], busy: list[Reader], seconds: float) -> list[dict[str, Any]]:
    found = []
    for name in PATHS:
        alone, beside = ([taken for reader in readers for taken in reader.taken[name]] for readers in (idle, busy))
        found.append(
            {
                "read": name,
                "reads/s": round(len(beside) / seconds),
                "p50 ms": round(quantile(beside, 0.5) * 1000, 1),
                "p99 ms": round(quantile(beside, 0.99) * 1000, 1),
                "without writers p50 ms": round(quantile(alone, 0.5) * 1000, 1),
                "ratio": round(quantile(beside, 0.5) / quantile(alone, 0.5), 2),
            }
        )
    return found
