"""Two simulated editors.

Each opens a record, waits, and saves a change against the version it opened. Now and then one opens the record that
the other has open, and their changes merge or conflict by the same rules as everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from django.db import models

from backoffice import values
from backoffice.models import Form, User
from backoffice.sections.conflicts import inbox
from backoffice.sections.forms.domain import UpdateForm
from backoffice.sections.users.domain import REASONS as REASONS_FOR_USERS
from backoffice.sections.users.domain import UpdateUser
from devtools.demo import visits
from events import commands, context, errors, types

JsonDict = dict[str, Any]

NEWEST: Final = 8  # editors choose from this many newest records, which are at the top of the lists
TABLES: Final[Mapping[str, type[models.Model]]] = {"user": User, "form": Form}
COMMANDS: Final[Mapping[str, type[types.CommandData]]] = {"user": UpdateUser, "form": UpdateForm}
REASONS: Final = (
    "Asked by phone",
    "Asked by e-mail",
    "Typing error",
    "Follow-up of yesterday's call",
    None,
    None,
    None,
)

HELPS: Final = ("", "Please answer in your own words.", "Only we can see this.", "If you are not sure, make a guess.",
                "You can change it later.")  # fmt: skip
DESCRIPTIONS: Final = (
    "It takes about three minutes. Thank you!",
    "Answers are read by people, every week.",
    "Please answer before the end of the month.",
    "Questions? Write to hello@example.org.",
)
MARKS: Final = ("", " (new)", " – second round", " – please share")


# -- changes: field -> other values it could have ---------------------------------------------------------------------


def _first_names(user: Any) -> list[str]:
    plain = user.first_name.removesuffix(user.first_name[-3:]) if user.first_name.endswith(".") else user.first_name
    return [plain, *(f"{plain} {initial}." for initial in "BKMR")]


def _titles(form: Any) -> list[str]:
    plain = form.title
    for mark in MARKS[1:]:
        plain = plain.removesuffix(mark)
    return [plain + mark for mark in MARKS]


def _questions(form: Any) -> list[list[JsonDict]]:
    """Variants of the form's questions, each with another help text for one of the first three."""
    return [
        [{**question, "help": text} if place == number else question for place, question in enumerate(form.fields)]
        for number in range(min(3, len(form.fields)))
        for text in HELPS
    ]


CHANGES: Final[Mapping[str, Mapping[str, Callable[[Any], list[Any]]]]] = {
    "user": {"plan": lambda _: list(values.PLANS), "role": lambda _: list(values.ROLES), "first_name": _first_names},
    "form": {"title": _titles, "fields": _questions, "description": lambda _: list(DESCRIPTIONS)},
}


@dataclass(frozen=True)
class Edit:
    """A record that an editor has open, and the change it is about to save."""

    kind: str
    key: str
    label: str
    base_version: int
    field: str
    value: Any

    @property
    def topic(self) -> str:
        return f"{self.kind}:{self.key}"


@dataclass
class Editor:
    """A simulated editor; `step` performs its next action and returns the seconds until the one after."""

    name: str
    actor: str
    rng: Random
    log: Callable[[str], None]
    visit: visits.Visits = field(default_factory=visits.Visits)
    partner: Editor | None = None
    open: Edit | None = None
    meetings: int = 0
    alone: int = 0

    def step(self) -> float:
        if self.open is None:
            self.open = self._open_record_of_partner() or self._pick()
            self.visit.enter(self.name, self.open.kind, self.open.key, self.open.field)
            return self.rng.uniform(2, 5)
        edit, self.open = self.open, None
        self.visit.leave(self.name)
        self._save(edit)
        return self.rng.uniform(0.5, 3)

    # -- open ---------------------------------------------------------------------------------------------------------

    def _open_record_of_partner(self) -> Edit | None:
        """Every other time, open the record that the partner has open; None otherwise.

        The first time the edit is of the same field, the next time of another one.
        """
        theirs = self.partner.open if self.partner else None
        if theirs is None or self.alone < 1:
            self.alone += 1
            return None
        record = TABLES[theirs.kind]._default_manager.filter(pk=theirs.key, deleted_at=None).first()
        if record is None:
            return None
        self.alone, self.meetings = 0, self.meetings + 1
        others = [name for name in CHANGES[theirs.kind] if name != theirs.field]
        name = theirs.field if self.meetings % 2 else self.rng.choice(others)
        return self._edit(theirs.kind, record, name, theirs)

    def _pick(self) -> Edit:
        kind = self.rng.choice(list(TABLES))
        newest = TABLES[kind]._default_manager.filter(deleted_at=None).order_by("-created_at", "-pk")[:NEWEST]
        records = list(newest)
        if not records:
            raise errors.StreamNotFound(f"There is no {kind} to edit.")
        return self._edit(kind, self.rng.choice(records), self.rng.choice(list(CHANGES[kind])))

    def _edit(self, kind: str, record: Any, name: str, theirs: Edit | None = None) -> Edit:
        """An edit of this field; it conflicts with `theirs` when that is of the same field."""
        current = getattr(record, name)
        candidates = [value for value in CHANGES[kind][name](record) if value != current]
        if theirs is not None and theirs.field == name:
            candidates = [value for value in candidates if _conflicts(value, theirs.value)]
        value = self.rng.choice(candidates) if candidates else current
        return Edit(kind, str(record.pk), str(record), record.version, name, value)

    # -- save ---------------------------------------------------------------------------------------------------------

    def _save(self, edit: Edit) -> None:
        reason = self.rng.choice(REASONS)
        if edit.kind == "user" and edit.field in REASONS_FOR_USERS.fields:
            reason = reason or REASONS[0]
        command = types.Command(
            id=types.new_id(),
            key=edit.key,
            data=COMMANDS[edit.kind](**{edit.field: edit.value}),
            base_version=edit.base_version,
            reason=reason,
        )
        with context.acting(context.Context(), actor=self.actor, actor_name=self.name):
            try:
                result = commands.dispatch(command)
            except errors.Conflict as conflict:
                inbox.file(command, conflict)  # as for a conflict between real people
                fields = ", ".join(conflict.fields)
                opened, now = conflict.base_version, conflict.version
                self.log(f"{self.name}: conflict in {fields} of {edit.label}: opened v{opened}, it is v{now} now")
            else:
                self.log(f"{self.name}: {edit.field} of {edit.label}: {result.status}, v{result.version}")


def _conflicts(mine: Any, theirs: Any) -> bool:
    """True when two values of a field cannot be merged; questions can, unless both changed the same question."""
    if isinstance(mine, list) and isinstance(theirs, list):
        return sum(bool(one != other) for one, other in zip(mine, theirs, strict=True)) == 1
    return bool(mine != theirs)


def pair(people: Mapping[str, str], rng: Random, log: Callable[[str], None], visit: visits.Visits) -> list[Editor]:
    """Create two editors that are each other's partner. `people`: name -> actor."""
    first, second = (Editor(name, actor, rng, log, visit) for name, actor in people.items())
    second.partner, second.alone = first, 1  # so that they meet in the first minute
    return [first, second]
