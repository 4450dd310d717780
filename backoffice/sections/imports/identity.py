"""Matches the rows of a plan with the submissions of a form: known rows, changed rows and new rows.

A submission's id is a keyed digest of its row's identity (`events.privacy.pseudonyms`, under the form's key). The same
row gets the same id from every export, and after an erasure of the form's owner no guess can be tested. An identity is
a name, shared by rows of one respondent or of equal content, and a number that counts them. Numbers follow the order of
one export, which the next one may reverse, so rows of one name are matched by content first:

    1  a row that equals a stored submission of its name is that submission
    2  of the rest, a row and a stored submission of the same name are the same, with other content
    3  every other row is new; a used number is never assigned again

Without ids, the name is the whole content. A question that was added later is then no part of the name of rows that
were stored before: those are searched by the questions that the form had at each time (`generations`).

Forms of releases before ids were keyed, and forms that came with `import_events` from another installation, have ids
that cannot be derived here. Their submissions are found by their answers, erased ones by their old ids.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from backoffice.sections.imports import rows
from backoffice.sections.imports.headers import Column
from backoffice.sections.submissions.domain import NO_ANSWERS
from events import store, strict_json
from events.db import arrays
from events.privacy.pseudonyms import Pseudonyms
from events.types import named_id

BATCH: Final = 1_000
MAX_GENERATIONS: Final = 20
OLD_VERSION: Final = 5  # of the ids of forms that were imported before ids were keyed; they are the same everywhere


@dataclass(slots=True)
class Stored:
    """A stored submission; `answers` is None once it is erased."""

    id: uuid.UUID
    version: int
    answers: dict[str, Any] | None
    times: dict[str, Any]
    deleted: bool


@dataclass(slots=True)
class Matches:
    """The rows of a plan, divided by how they relate to the form's submissions.

    `unrecognisable`: the number of erased submissions from another installation, with which no row can be compared.
    """

    fresh: list[tuple[rows.Identity, rows.Row]] = field(default_factory=list)
    changed: list[tuple[Stored, rows.Row]] = field(default_factory=list)
    erased: list[rows.Row] = field(default_factory=list)
    known: int = 0
    unrecognisable: int = 0


def id_of(key: Pseudonyms, identity: rows.Identity) -> uuid.UUID:
    """Returns the id of the submission that a row becomes."""
    name, number = identity
    return key.id(f"submission\x1f{name}\x1f{number}")


# -- the identity column ----------------------------------------------------------------------------------------------


def column_of(plan: rows.Plan, fields: Iterable[Mapping[str, Any]], *, keyed: bool) -> tuple[Column | None, str | None]:
    """Returns the column that identifies rows of a form, or the label of its field if the file lacks it.

    The first import of a form marks the field. Before ids were keyed there was no mark, but a field of its own for
    each id.
    """
    single = {made.field["id"]: made.columns[0] for made in plan.fields if len(made.columns) == 1}
    for made in fields:
        if made.get(rows.IDENTITY):
            return single.get(made["id"]), None if made["id"] in single else made.get("label", made["id"])
    if keyed:
        return None, None
    had = [single[made["id"]] for made in fields if made.get("source") == "respondent" and made["id"] in single]
    return min(had, key=rows.preference, default=None), None


# -- names ------------------------------------------------------------------------------------------------------------


def generations(plan: rows.Plan, question_sets: Sequence[AbstractSet[str]]) -> Iterator[list[Column]]:
    """Yields the file's columns that the form had, for each of its sets of questions, newest first.

    Columns that are not questions (times) belong to every set. The set of all columns is not included.
    """
    late = [{made.field["id"] for made in plan.fields} - have for have in reversed(question_sets)]
    seen: list[set[str]] = [set()]
    for missing in late:
        if missing not in seen and len(seen) <= MAX_GENERATIONS:
            seen.append(missing)
            gone = {column.index for made in plan.fields if made.field["id"] in missing for column in made.columns}
            kept = [column for column in plan.columns if column.index not in gone]
            if kept:
                yield kept


# -- matching ---------------------------------------------------------------------------------------------------------


class Matcher:
    """Compares a plan with the submissions of one form, in batches, and fills `matches`."""

    def __init__(self, plan: rows.Plan, form_id: uuid.UUID, key: Pseudonyms, by: Column | None) -> None:
        self.plan, self.form_id, self.key, self.by = plan, form_id, key, by
        self.fields = [made.field["id"] for made in plan.fields]
        self.matches = Matches()
        self._claimed: set[uuid.UUID] = set()
        self._taken: dict[str, set[int]] = {}
        self._next: Counter[str] = Counter()
        self._old: _Old | None = None

    def run(self, question_sets: Sequence[AbstractSet[str]], *, keyed: bool) -> Matches:
        if not keyed:
            self._old = _Old(self.plan, self.form_id, self.by)
            self.matches.unrecognisable = 0 if self.form_id.version == OLD_VERSION else self._old.erased
        names = [name for name, _ in rows.identities(self.plan.columns, self.by)]
        left = self._match(names, range(len(names)))
        if self.by is None:
            for columns in generations(self.plan, question_sets):
                if left:
                    left = self._match([name for name, _ in rows.identities(columns, None)], left)
        for at in left:
            self._add(at, names[at])
        return self.matches

    def _add(self, at: int, name: str) -> None:
        row = self.plan.rows[at]
        if self._old is not None and self._old.is_erased(at):
            self.matches.erased.append(row)
            return
        taken = self._taken.get(name, ())
        self._next[name] += 1
        while self._next[name] in taken:
            self._next[name] += 1
        self.matches.fresh.append(((name, self._next[name]), row))

    def _match(self, names: Sequence[str], which: Iterable[int]) -> list[int]:
        """Matches the rows of these names with stored submissions; returns the other rows in file order."""
        groups: dict[str, list[int]] = {}
        for at in which:
            groups.setdefault(names[at], []).append(at)
        left: list[int] = []
        for batch in _batches(groups):
            stored = self._stored(batch)
            for name, members in batch.items():
                left += self._match_name(name, members, stored.get(name, []))
        return sorted(left)

    def _match_name(self, name: str, members: Sequence[int], stored: Sequence[Stored]) -> list[int]:
        """Matches the rows of one name: equal answers first, then pairs; returns the remaining rows."""
        spare = {one.id: one for one in stored if one.id not in self._claimed}
        rest: list[int] = []
        if len(members) == len(spare) == 1:
            rest = list(members)
        else:
            alike: dict[str, list[Stored]] = {}
            for one in spare.values():
                alike.setdefault(self._content(one.answers), []).append(one)
            for at in members:
                same = alike.get(self._content(self.plan.rows[at].answers))
                if same:
                    self._pair(at, spare.pop(same.pop().id))
                else:
                    rest.append(at)
        others = sorted(spare.values(), key=lambda one: (one.answers is None, one.id))
        for at, one in zip(rest, others, strict=False):
            self._pair(at, one)
        return rest[len(others) :]

    def _pair(self, at: int, stored: Stored) -> None:
        row = self.plan.rows[at]
        self._claimed.add(stored.id)
        if stored.answers is None:
            self.matches.erased.append(row)
            return
        self.matches.known += 1
        if not stored.deleted and (stored.answers != merged(stored, row, self.fields) or changed_times(stored, row)):
            self.matches.changed.append((stored, row))

    def _content(self, answers: Mapping[str, Any] | None) -> str:
        """Returns the answers to the file's questions as text, for comparison; "" for an erased submission."""
        return _plain({name: answers[name] for name in self.fields if name in answers}) if answers else ""

    def _stored(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Stored]]:
        """Returns the stored submissions of these names.

        Numbers are tried from 1 until one is missing; others are found by their answers.
        """
        found: dict[str, list[Stored]] = {}
        wanted = {(name, number) for name, members in batch.items() for number in range(1, len(members) + 1)}
        while wanted:
            ids = {id_of(self.key, identity): identity for identity in wanted}
            there = {ids[one.id]: one for one in _read(ids)}
            for (name, number), one in sorted(there.items(), key=lambda pair: pair[0]):
                found.setdefault(name, []).append(one)
                self._taken.setdefault(name, set()).add(number)
            ended = {name for name, _ in wanted - there.keys()}
            more = Counter(name for name, _ in wanted if name not in ended)
            wanted = {(name, max(self._taken[name]) + n) for name, size in more.items() for n in range(1, size + 1)}
        if self._old is not None:
            named = self._old.named(batch)
            there_by_id = {one.id: one for one in _read({key for keys in named.values() for key in keys})}
            for name, keys in named.items():
                found.setdefault(name, []).extend(there_by_id[key] for key in keys)
        return found


def _batches(groups: Mapping[str, list[int]]) -> Iterator[dict[str, list[int]]]:
    batch: dict[str, list[int]] = {}
    size = 0
    for name, members in groups.items():
        batch[name] = members
        size += len(members)
        if size >= BATCH:
            yield batch
            batch, size = {}, 0
    if batch:
        yield batch


READ = """
select id, version, answers::text, started_at, completion_time, created_at, deleted_at is not null
  from submissions where id = any(%s)
"""


def _read(ids: Iterable[uuid.UUID]) -> list[Stored]:
    wanted = list(ids)
    found = []
    for start in range(0, len(wanted), BATCH):
        for row in store.query(READ, (arrays.Uuids(wanted[start : start + BATCH]),)):
            answers = strict_json.stored(row[2])
            times = {"started_at": row[3], "completion_time": row[4], "created_at": row[5]}
            found.append(Stored(row[0], row[1], None if answers == NO_ANSWERS else answers, times, row[6]))
    return found


# -- content ----------------------------------------------------------------------------------------------------------


def merged(stored: Stored, row: rows.Row, fields: Iterable[str]) -> dict[str, Any]:
    """Returns the stored answers updated with those of the row; answers to questions that the file lacks stay."""
    answers = dict(stored.answers or {})
    for name in fields:
        if name not in row.answers:
            answers.pop(name, None)
        elif not _same(answers.get(name), row.answers[name]):
            answers[name] = row.answers[name]
    return answers


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or _plain(one) == _plain(other)


def _plain(value: Any) -> str:
    """Returns the value as JSON in composed form (NFC); older releases stored texts unchanged."""
    return rows.nfc(msgspec.json.encode(value, order="deterministic").decode())


def changed_times(stored: Stored, row: rows.Row) -> dict[str, Any]:
    """Returns the times of the row that differ from those of the submission."""
    given = {"started_at": row.started_at, "completion_time": row.completion_time, "created_at": row.created_at}
    return {name: value for name, value in given.items() if value is not None and value != stored.times[name]}


# -- forms of older releases ------------------------------------------------------------------------------------------

SCAN = "select id, answers::text from submissions where form_id = %s and id > %s order by id limit %s"


class _Old:
    """Submissions without derivable ids: from releases before keyed ids, or from another installation."""

    def __init__(self, plan: rows.Plan, form_id: uuid.UUID, by: Column | None) -> None:
        named = [made.field["id"] for made in plan.fields if by is not None and made.columns == [by]]
        self._id_field = named[0] if named else None
        self._rows = plan.rows
        self._old = rows.old_identities(plan.columns)
        self._by_answers: dict[str, list[uuid.UUID]] = {}
        erased: set[uuid.UUID] = set()
        there: set[uuid.UUID] = set()
        for key, answers in _scan(form_id):
            there.add(key)
            if answers == NO_ANSWERS:
                erased.add(key)
            else:
                self._by_answers.setdefault(self._name(answers), []).append(key)
        self.erased = len(erased)
        ids = [named_id(form_id, name if number == 1 else f"{name}\x1f{number}") for name, number in self._old]
        self._by_row = {at: key for at, key in enumerate(ids) if key in there and by is None}
        self._erased = {name for (name, _), key in zip(self._old, ids, strict=True) if key in erased}

    def _name(self, answers: Mapping[str, Any]) -> str:
        if self._id_field is not None and answers.get(self._id_field) is not None:
            return f"{rows.BY_ID}{rows.nfc(str(answers[self._id_field]))}"
        return _plain(answers)

    def is_erased(self, at: int) -> bool:
        """Returns whether the submission of this row's respondent, or with this content, was erased."""
        return self._old[at][0] in self._erased

    def named(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[uuid.UUID]]:
        found: dict[str, list[uuid.UUID]] = {}
        for name, members in batch.items():
            ids = [self._by_row[at] for at in members if at in self._by_row]
            for text in {self._name(self._rows[at].answers) for at in members}:
                ids += self._by_answers.get(text, ())
            found[name] = list(dict.fromkeys(ids))
        return found


def _scan(form_id: uuid.UUID) -> Iterator[tuple[uuid.UUID, dict[str, Any]]]:
    after = uuid.UUID(int=0)
    while found := store.query(SCAN, (form_id, after, BATCH)):
        for key, text in found:
            yield key, strict_json.stored(text)
        after = found[-1][0]
