"""Privacy: erases users, and exports their personal data."""

from __future__ import annotations

from backoffice.section import Section
from backoffice.sections.privacy import erasure, export_jobs, tasks
from backoffice.sections.privacy.pages import PrivacyPages

SECTION = Section(
    name="privacy",
    record_pages=(PrivacyPages,),
    api_urls="backoffice.sections.privacy.api",
    api_shapes="backoffice.sections.privacy.shapes",
    before={"user": erasure.notes},
    after={"user": erasure.users, "form": erasure.forms, "submission": erasure.submissions},
    purgers={
        "personal-data exports": export_jobs.purge,
        **erasure.PURGERS,
        "exports made during the purge": export_jobs.purge,  # they contain answers that were readable until now
    },
    tasks=(tasks.make_export, tasks.resume_exports),
)
