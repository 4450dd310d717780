"""Suppressions keep an erased submission from being imported again with the next export of its form.

When a submission to an imported form is erased, keyed digests of its identifying values are kept: e-mail addresses,
telephone numbers, ids, and, if it contains text, all its answers together. The key is derived from the form's
(`events.privacy.pseudonyms`), so a digest discloses nothing to a holder of the log, the table or a dump, and nothing
to anybody once the form's owner is erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from backoffice import models, values
from backoffice.sections.imports import rows
from backoffice.sections.submissions import domain as submissions
from events import snapshots, store
from events.privacy import pseudonyms
from events.types import NewEvent, category_of, key_of, stream_name

# The actor of imports, and so of the first event of every imported form.
ACTOR: Final = "command:import_submissions"
# Sets of questions that erased submissions had answered; each costs one digest per row.
MAX_SHAPES: Final = 100

INSERT = """
insert into import_suppressions (form_id, digest, fields, created_at)
select %s, decode(one->>'digest', 'hex'), one->'fields', now() from jsonb_array_elements(%s::jsonb) one
on conflict (form_id, digest) do nothing
"""
READ = "select digest, fields::text from import_suppressions where form_id = %s order by created_at desc"
FORGET = """
delete from import_suppressions where id = any(array(
    select id from import_suppressions where form_id = any(%(forms)s::uuid[]) limit %(limit)s)) returning 1
"""

Fields = Mapping[str, Mapping[str, Any]]


def remember(form_id: Any, stream: str) -> None:
    """Stores the digests of a submission before it is erased, for forms that an import created.

    Uses only readable events: an erasure does not wait for unreadable ones.
    """
    subject = stream_name("form", form_id)
    first = store.read_stream(subject, limit=1)
    answers = snapshots.folded(stream).state.answers
    if not first or first[0].actor != ACTOR or not answers or answers == submissions.NO_ANSWERS:
        return
    key = pseudonyms.of(subject)
    if key is None:
        return
    fields = by_id(snapshots.folded(subject).state.fields)
    found: dict[bytes, tuple[str, ...]] = {key.digest(text): () for text in _identifying(answers, fields)}
    if any(fields.get(name, {}).get("type") in ("text", "long_text") for name in answers):
        shape = tuple(sorted(answers))
        found[key.digest(_together(answers, shape))] = shape
    entries = [{"digest": digest.hex(), "fields": shape} for digest, shape in found.items()]
    store.execute(INSERT, (form_id, msgspec.json.encode(entries).decode()))


def by_id(fields: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {made["id"]: made for made in fields}


def _identifying(answers: Mapping[str, Any], fields: Fields) -> Iterator[str]:
    """Returns values that identify a person: e-mail addresses anywhere, telephone numbers, ids under their question."""
    for name, value in answers.items():
        made = fields.get(name, {})
        if made.get(rows.IDENTITY) or made.get("source") == "respondent":
            yield f"id\x1f{name}\x1f{rows.nfc(str(value))}"
        elif isinstance(value, str) and "@" in value:
            address = _address(value)
            if address:
                yield f"email\x1f{address}"
        elif isinstance(value, str) and made.get("type") == "phone":
            yield f"phone\x1f{''.join(filter(str.isdigit, value))}"


def _address(value: str) -> str | None:
    try:
        return values.normal_email(value)
    except ValueError:
        return None


def _together(answers: Mapping[str, Any], shape: Sequence[str]) -> str:
    given = [[name, answers[name]] for name in shape]
    return "content\x1f" + rows.nfc(msgspec.json.encode(given, order="deterministic").decode())


@dataclass(slots=True)
class Suppressed:
    """The suppressions of a form, for comparison with rows."""

    key: pseudonyms.Pseudonyms
    fields: Fields
    digests: set[bytes] = field(default_factory=set)
    shapes: list[tuple[str, ...]] = field(default_factory=list)

    def holds(self, answers: Mapping[str, Any]) -> bool:
        """Returns whether these answers identify a person with an erased submission, or contain all its answers."""
        if any(self.key.digest(text) in self.digests for text in _identifying(answers, self.fields)):
            return True
        return any(
            self.key.digest(_together(answers, shape)) in self.digests
            for shape in self.shapes
            if all(name in answers for name in shape)
        )


def of(form_id: Any, key: pseudonyms.Pseudonyms, fields: Sequence[Mapping[str, Any]]) -> Suppressed | None:
    """Returns the suppressions of a form; None if it has none."""
    found = store.query(READ, (form_id,))
    if not found:
        return None
    shapes = list(dict.fromkeys(shape for _, text in found if (shape := tuple(msgspec.json.decode(text)))))
    return Suppressed(key, by_id(fields), {bytes(digest) for digest, _ in found}, shapes[:MAX_SHAPES])


def forget(form_ids: Sequence[str], limit: int) -> int:
    """Deletes the suppressions of erased forms, which are useless without the key."""
    return len(store.query(FORGET, {"forms": list(form_ids), "limit": limit}))


# -- hooks ----------------------------------------------------------------------------------------------------------


def note_erasures(events: Sequence[NewEvent]) -> None:
    """Projects `submission.erased`: stores its digests while its answers can be read."""
    for event in events:
        if isinstance(event.data, submissions.SubmissionErased):
            remember(event.data.form_id or models.Submission.form_of(event.key), event.stream)


def purge(subjects: Sequence[str], limit: int) -> int:
    """Deletes the suppressions of erased forms (`events.extension.Purger`)."""
    return forget([key_of(one) for one in subjects if category_of(one) == "form"], limit)
