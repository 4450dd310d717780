"""Records with a form whose saves are queued, for `test_fault_matrix`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.browser.fault_ways import Setup, fill
from tests.browser.test_admin import command, new_user


@dataclass(frozen=True)
class RecordWay:
    """A record with a form. `type` replaces the text; `theirs` is a change by another person elsewhere in it."""

    create: Callable[[Setup], str]
    type: Callable[[Setup, str], None]
    stored: Callable[[Setup], tuple[str, str, int]]
    category: str
    theirs: Callable[[str], dict[str, Any]] | None = None
    role: str = "agent"


def new_form(setup: Setup) -> str:
    key = str(uuid.uuid4())
    data = {"user_id": new_user(setup.admin), "title": "Survey", "fields": [{"id": "a", "type": "text", "label": "A"}]}
    command(setup.admin, "form.create", key, data)
    return key


def new_setting(setup: Setup) -> str:
    key = f"matrix.{uuid.uuid4().hex[:8]}"
    command(setup.admin, "setting.set", key, {"value": ""})
    return key


def type_question(setup: Setup, text: str) -> None:
    label = setup.page.get_by_label("Question", exact=True)
    if not label.is_visible():
        setup.page.locator(".opener").first.click()
    label.fill(text)


def stored(statement: str) -> Callable[[Setup], tuple[str, str, int]]:
    def read(setup: Setup) -> tuple[str, str, int]:
        ((mine, theirs, version),) = setup.stack.query(statement, setup.key)
        return mine, theirs, version

    return read


RECORDS = {
    "record": RecordWay(
        lambda setup: new_user(setup.admin, first_name="Ada", last_name=""),
        lambda setup, text: fill(setup, {"[name=first_name]": text}),
        stored("select first_name, last_name, version from users where id = %s"),
        "user",
        lambda text: {"last_name": text},
    ),
    "questions": RecordWay(
        new_form,
        type_question,
        stored("select fields->0->>'label', description, version from forms where id = %s"),
        "form",
        lambda text: {"description": text},
    ),
    "setting": RecordWay(
        new_setting,
        lambda setup, text: fill(setup, {"[name=value]": f'"{text}"', "[name=reason]": text}),
        stored("select value #>> '{}', '', version from settings where key = %s"),
        "setting",
        role="admin",
    ),
}
