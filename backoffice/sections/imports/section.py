"""Imports of submissions from files: a command, and the suppressions of erased submissions."""

from __future__ import annotations

from backoffice.section import Section
from backoffice.sections.imports import suppressions

SECTION = Section(
    name="imports",
    before={"submission": suppressions.note_erasures},
    purgers={"import suppressions": suppressions.purge},
)
