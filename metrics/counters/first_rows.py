"""Creates the counters' row of each new user and form, in the transaction that creates the record.

Lists are sorted along the indexes of the counters, so a record without a row would be missing from them until the
subscription has counted it. The row has no numbers: they, the state and the owner of the record come from the
subscription. No other transaction knows a new row, so no writer waits for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from events import store
from events.db import arrays
from events.extension import Projection
from events.types import NewEvent

USERS: Final = "insert into metrics_user_stats (user_id) select unnest(%s::uuid[]) on conflict do nothing"
FORMS: Final = "insert into metrics_form_stats (form_id) select unnest(%s::uuid[]) on conflict do nothing"


def users(events: Sequence[NewEvent]) -> None:
    """Inserts a row for each user that these events create."""
    _insert(USERS, "user.created", events)


def forms(events: Sequence[NewEvent]) -> None:
    """Inserts a row for each form that these events create."""
    _insert(FORMS, "form.created", events)


def _insert(statement: str, name: str, events: Sequence[NewEvent]) -> None:
    if keys := [event.key for event in events if event.type == name]:
        store.execute(statement, (arrays.Texts(keys),))


INLINE: Final[Mapping[str, Projection]] = {"user": users, "form": forms}
