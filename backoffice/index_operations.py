"""Operations of migrations that build indexes while the tables are written."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.postgres.operations import AddIndexConcurrently

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
        if found:
            schema_editor.execute(f"drop index concurrently {name}", params=None)
        super().database_forwards(app_label, schema_editor, from_state, to_state)
