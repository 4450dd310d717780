"""The load of the chaos test: commands, dispatched until they are acknowledged."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from benchmarks.chaos.stack import READY_SECONDS


def retry_until_answered(work: Callable[[], Any], stop: Callable[[], bool] = lambda: False) -> Any:
    """Repeat work until the database answers. Commands carry an id, so a repeated one takes effect once."""
    import psycopg
    import psycopg_pool
    from django.db import Error, connection

    from events import errors

    while True:
        try:
            return work()
        except (Error, psycopg.Error, psycopg_pool.PoolTimeout, errors.StoreUnavailable):
            connection.close()
            if stop():
                raise
            time.sleep(0.1)


class Writer(threading.Thread):
    """Dispatches commands like a busy site: mostly single ones, sometimes a transaction with many."""

    def __init__(self, seed: int, rate: float, users: Sequence[UUID], forms: Sequence[UUID]) -> None:
        super().__init__(daemon=True)
        self.rng, self.pause = random.Random(seed), 1 / rate
        self.users, self.forms = users, forms
        self.acknowledged: list[Any] = []
        self.received: list[UUID] = []  # submissions of acknowledged commands
        self.error: BaseException | None = None
        self._ending = threading.Event()

    def run(self) -> None:
        from django.db import connection

        from events import commands

        try:
            while not self._ending.wait(self.rng.expovariate(1 / self.pause)):
                if self.rng.random() < 0.02:
                    many = [self.command() for _ in range(self.rng.randint(10, 60))]
                    self.acknowledge(retry_until_answered(functools.partial(commands.dispatch_many, many)))
                else:
                    one = self.command()
                    self.acknowledge([retry_until_answered(functools.partial(commands.dispatch, one))])
        except BaseException as error:
            self.error = error
        finally:
            connection.close()

    def end(self) -> None:
        self._ending.set()
        self.join(READY_SECONDS)
        if self.error is not None:
            raise self.error
        if self.is_alive():
            raise RuntimeError("a writer is stuck")

    def acknowledge(self, results: Sequence[Any]) -> None:
        self.acknowledged += results
        streams = (result.stream.partition("-") for result in results if result.version == 1)
        self.received += [UUID(key) for category, _, key in streams if category == "submission"]

    def command(self) -> Any:
        from backoffice.sections.forms import domain as forms
        from backoffice.sections.site_settings import domain as settings
        from backoffice.sections.submissions import domain as submissions
        from backoffice.sections.users import domain as users
        from events.types import Command, new_id

        rng, mark = self.rng, f"{self.rng.random():.12f}"
        key: Any = new_id()
        data: Any
        kinds = {"update": 6, "email": 1, "create": 1, "form": 2, "submission": 4, "setting": 1}
        if self.received:
            kinds |= {"correction": 1, "deletion": 1}
        match rng.choices(list(kinds), list(kinds.values()))[0]:
            case "update":
                key, data = (
                    rng.choice(self.users),
                    users.UpdateUser(first_name=mark, plan=rng.choice(["free", "premium"])),
                )
            case "email":
                key, data = rng.choice(self.users), users.UpdateUser(email=f"{mark}@example.org")
            case "create":
                data = users.CreateUser(email=f"{key}@example.org", last_name=mark)
            case "form":
                key, data = rng.choice(self.forms), forms.UpdateForm(title=mark)
            case "submission":
                data = submissions.ReceiveSubmission(
                    form_id=rng.choice(self.forms), answers={"q": mark * 10}, completion_time=1.5
                )
            case "correction":
                key, data = rng.choice(self.received), submissions.CorrectSubmission(completion_time=rng.random() * 60)
            case "deletion":
                key, data = self.received.pop(rng.randrange(len(self.received))), submissions.DeleteSubmission()
            case _:
                key, data = f"chaos.{rng.randint(0, 9)}", settings.SetSetting(value=mark)
        return Command(id=new_id(), key=str(key), data=data)


def create_records(rng: random.Random) -> tuple[list[UUID], list[UUID]]:
    """Create the users and forms that commands refer to."""
    from backoffice.sections.forms import domain as forms
    from backoffice.sections.users import domain as users
    from events import commands
    from events.types import Command, new_id

    people, made = [new_id() for _ in range(20)], [new_id() for _ in range(10)]
    commands.dispatch_many(
        [Command(id=new_id(), key=str(key), data=users.CreateUser(email=f"{key}@example.org")) for key in people]
    )
    commands.dispatch_many(
        [
            Command(id=new_id(), key=str(key), data=forms.CreateForm(user_id=rng.choice(people), title="A form"))
            for key in made
        ]
    )
    return people, made
