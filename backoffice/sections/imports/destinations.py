"""The destination of an import: its owner, its form, and the rows of the plan that the form lacks.

Importing a file again, a renamed, reordered or extended one, adds only the rows that the form lacks (see
`identity`). A submission that staff deleted stays deleted, an erased one stays erased (`suppressions`). A row
that the form has with other content is reported, and corrected only on request.
"""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from backoffice import bounds, values
from backoffice.models import Form, User
from backoffice.sections.forms import domain as forms
from backoffice.sections.imports import existing, identity, rows, suppressions
from backoffice.sections.imports.headers import Column
from events import snapshots, store
from events.privacy import pseudonyms
from events.types import named_id, stream_name

# Namespace of the ids of forms and rows that were imported before ids were keyed.
NAMESPACE = uuid.UUID("7d0f0e5e-8a0b-5c1f-9b55-3c2f6f1b7a52")
_SHAPES = {"multiple_choice": "list", "matrix": "rows", "ranking": "rows"}

Fresh: TypeAlias = tuple[rows.Identity, rows.Row]
Changed: TypeAlias = tuple[identity.Stored, rows.Row]


class ImportRejected(Exception):
    """The file is valid, but cannot be imported into this form or for this owner."""


@dataclass(slots=True)
class Destination:
    """The form of an import, and the rows of the plan by the action they need.

    fresh    rows that the form lacks
    changed  rows that it has with other content
    erased   rows of erased submissions or people, which are not written
    known    number of rows that it has
    """

    form_id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    version: int = 0
    fresh: list[Fresh] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    erased: list[rows.Row] = field(default_factory=list)
    known: int = 0
    by: Column | None = None
    new_fields: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find(plan: rows.Plan, title: str, email: str, *, update: bool, archived: bool) -> tuple[Destination, forms.Form]:
    """Looks up owner and form, and compares the rows; returns the form's state too. Raises `ImportRejected`."""
    title = values.normal_name(title)
    if not 0 < len(title) <= bounds.TITLE:
        raise ImportRejected(f"the title must have 1 to {bounds.TITLE} characters")
    owner = _owner(email)
    found, keyed = _form_of(owner, title)
    state, found.version = snapshots.state(stream_name("form", found.form_id))
    if found.version == 0:
        found.by = plan.respondent
        found.fresh = [(row.identity, row) for row in plan.rows]
    else:
        question_sets = _compare(found, plan, state)
        _match(found, plan, state, question_sets, keyed=keyed)
        if state.archived and found.fresh and not archived:
            raise ImportRejected(
                f"the form “{found.title}” is archived; add --archived to import its old submissions all the same"
            )
        _warn_about_rows(found, update=update)
    if not update:
        found.changed.clear()
    return found, state


def _owner(email: str) -> User:
    try:
        owner = User.not_deleted_with_address(values.normal_email(email)).first()
    except ValueError as error:
        raise ImportRejected(f"“{email}” is not an owner: {error}") from None
    if owner is None:
        raise ImportRejected(
            f"there is no user with the email address {email}. Add the user first: Users, Add user in the admin, or "
            "POST /api/v1/commands/ with the type user.create"
        )
    return owner


def _form_of(owner: User, title: str) -> tuple[Destination, bool]:
    """Returns the form of this title, existing or new, and whether the ids of its rows can be derived."""
    subject = stream_name("user", owner.pk)
    key = pseudonyms.of(subject)
    as_given, title = title, unicodedata.normalize("NFC", title)
    new = (
        form_id_of(key, title) if key is not None else uuid.uuid4()
    )  # an owner without a key gets one with the first write
    old = named_id(NAMESPACE, f"form\x1f{owner.pk}\x1f{as_given}")
    for form_id in (new, old, *_imported(owner, title)):
        if store.version_of(stream_name("form", form_id)):
            return Destination(form_id, owner.pk, title), form_id == new
    return Destination(new, owner.pk, title), True


def form_id_of(key: pseudonyms.Pseudonyms, title: str) -> uuid.UUID:
    """Returns the id of the form that an import with this title creates for the owner of the key."""
    return key.id(f"form\x1f{title}")


def _imported(owner: User, title: str) -> Iterator[uuid.UUID]:
    """Yields the ids of forms with this title that another installation imported and `import_events` copied."""
    for form in Form.objects.filter(user_id=owner.pk, title=title).order_by("created_at", "id"):
        first = store.read_stream(stream_name("form", form.pk), limit=1)
        if first and first[0].actor == suppressions.ACTOR:
            yield form.pk


def _compare(found: Destination, plan: rows.Plan, state: forms.Form) -> list[set[str]]:
    """Compares an existing form with the plan: changes by staff stay, new fields are added.

    Raises `ImportRejected` if staff removed a field that the file has, or if answers have another shape than the form's
    field. Returns the sets of fields that the form has had, in order.
    """
    if state.deleted_at is not None:
        raise ImportRejected(f"the form “{found.title}” was deleted; restore it or choose another title")
    history = store.read_stream(stream_name("form", found.form_id))
    question_sets = [{made["id"] for made in event.data["fields"]} for event in history if event.data.get("fields")]
    ever = set().union(*question_sets)
    have = {made["id"]: made for made in state.fields}
    wanted = [made.field for made in plan.fields]
    removed = [made["label"] for made in wanted if made["id"] in ever and made["id"] not in have]
    if removed:
        raise ImportRejected(
            f"the form “{found.title}” no longer has: {_listed(removed)}; put back or import elsewhere"
        )
    found.warnings += existing.adopt(plan, state.fields)
    _compare_types(found, [(have[made["id"]], made) for made in wanted if made["id"] in have])
    new = [made for made in wanted if made["id"] not in have]
    found.new_fields = [{name: value for name, value in made.items() if name != rows.IDENTITY} for made in new]
    return question_sets


def _compare_types(found: Destination, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    unlike = [made["label"] for ours, made in pairs if _shape(ours) != _shape(made)]
    if unlike:
        raise ImportRejected(
            f"answers in the file have another shape than in the form “{found.title}”: {_listed(unlike)}"
        )
    for ours, made in pairs:
        if ours["type"] != made["type"] and not {ours["type"], made["type"]} <= existing.TEXTS:
            found.warnings.append(f"“{made['label']}” is {ours['type']} in the form and {made['type']} in the file")
        had = {rows.nfc(str(option)) for option in ours.get("options") or made["options"]}
        strange = [option for option in made["options"] if rows.nfc(str(option)) not in had]
        if strange:
            found.warnings.append(f"“{made['label']}” has options that the form lacks: {_listed(strange)}")


def _shape(made: dict[str, Any]) -> str:
    return _SHAPES.get(made["type"], "value")


def _listed(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return ", ".join(f"“{label}”" for label in labels[:10]) + more


# -- rows -------------------------------------------------------------------------------------------------------------


def _match(
    found: Destination, plan: rows.Plan, state: forms.Form, question_sets: list[set[str]], *, keyed: bool
) -> None:
    """Divides the rows into known, changed, new and erased ones."""
    found.by, lacking = identity.column_of(plan, state.fields, keyed=keyed)
    if lacking is not None:
        raise ImportRejected(
            f"the file has no column “{lacking}”, by which the rows of the form “{found.title}” are recognised"
        )
    key = pseudonyms.of(stream_name("form", found.form_id))
    if key is None:  # stored in plain text before rows had keys, so no submission has a derived id
        key = pseudonyms.Pseudonyms(bytes(32))
    matches = identity.Matcher(plan, found.form_id, key, found.by).run(question_sets, keyed=keyed)
    found.known, found.changed, found.erased = matches.known, matches.changed, matches.erased
    if matches.unrecognisable:
        found.warnings.append(
            f"{matches.unrecognisable} submission(s) were erased before the form came here with its log; rows of these "
            "persons cannot be recognised: take them out of the file"
        )
    suppressed = suppressions.of(found.form_id, key, state.fields)
    if suppressed is None:
        found.fresh = matches.fresh
        return
    for one in matches.fresh:
        if suppressed.holds(one[1].answers):
            found.erased.append(one[1])
        else:
            found.fresh.append(one)


def _warn_about_rows(found: Destination, *, update: bool) -> None:
    if found.changed and not update:
        found.warnings.append(
            f"{len(found.changed)} row(s) are there with other content and were left as they are; --update corrects "
            "them, another --form keeps both: " + rows.listed([row.line for _, row in found.changed])
        )
    if found.erased:
        lines = sorted(row.line for row in found.erased)
        found.warnings.append(
            f"{len(lines)} row(s) belong to submissions that were erased and are not imported again: "
            f"{rows.listed(lines)}"
        )
