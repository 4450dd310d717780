"""Operations of migrations that build and drop indexes while the tables are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently

VALID: Final = "select indisvalid from pg_index where indexrelid = to_regclass(%s)"


class BuildIndex(AddIndexConcurrently):
    """`AddIndexConcurrently` that can be repeated: a build that fails leaves an invalid index under the name."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        name = schema_editor.quote_name(self.index.name)
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(VALID, [name])
            found = cursor.fetchone()
        if found == (True,):
            return
        with _without_lock_timeout(schema_editor):
            if found:
                schema_editor.execute(f"drop index concurrently {name}", params=None)
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class DropIndex(RemoveIndexConcurrently):
    """`RemoveIndexConcurrently` that waits for open transactions."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        with _without_lock_timeout(schema_editor):
            super().database_forwards(app_label, schema_editor, from_state, to_state)


@contextmanager
def _without_lock_timeout(schema_editor: Any) -> Iterator[None]:
    """Both operations wait for all open transactions, which may take minutes; no other session waits for them."""
    schema_editor.execute("set lock_timeout = 0", params=None)
    try:
        yield
    finally:
        schema_editor.execute("reset lock_timeout", params=None)
