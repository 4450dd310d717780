"""Creates and changes records in tests through the same commands as the product."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from backoffice import section
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands
from events.types import Command, CommandData, new_id


def command(data: CommandData, key: Any = None, **fields: Any) -> Command:
    return Command(id=fields.pop("id", None) or new_id(), key=str(key or new_id()), data=data, **fields)


def user(**fields: Any) -> uuid.UUID:
    """Create a user; returns its id."""
    key = new_id()
    commands.dispatch(command(users.CreateUser(**{"email": f"{key}@example.org", **fields}), key))
    return key


def form(owner: uuid.UUID | None = None, **fields: Any) -> uuid.UUID:
    key = new_id()
    commands.dispatch(command(forms.CreateForm(**{"user_id": owner or user(), "title": "A form", **fields}), key))
    return key


def submission(form_id: uuid.UUID | None = None, **answers: Any) -> uuid.UUID:
    key = new_id()
    commands.dispatch(command(submissions.ReceiveSubmission(form_id=form_id or form(), answers=answers), key))
    return key


def update(key: uuid.UUID, base_version: int | None = None, **fields: Any) -> commands.Result:
    return commands.dispatch(command(users.UpdateUser(**fields), key, base_version=base_version))


class Thread(threading.Thread):
    """A thread that returns a result, and closes its own database connection at the end."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work, self._result, self._error = work, None, None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        finally:
            connection.close()

    def result(self, timeout: float = 30) -> Any:
        self.join(timeout)
        if self.is_alive():
            raise TimeoutError("the thread is still at work")
        if self._error is not None:
            raise self._error
        return self._result


def hide(monkeypatch: pytest.MonkeyPatch, role: str, category: str, *names: str) -> None:
    """Hide some fields of a kind of record from a role."""
    kind = dataclasses.replace(section.kind(category), hidden={role: frozenset(names)})
    monkeypatch.setitem(section._kinds, category, kind)
