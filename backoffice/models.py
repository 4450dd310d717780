"""Imports the models of all sections, because Django looks for them here. Only projections write the read tables."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from django.conf import settings

from backoffice.sections.conflicts.models import Conflict
from backoffice.sections.forms.models import Form
from backoffice.sections.imports.models import ImportSuppression
from backoffice.sections.privacy.models import PersonExport, PersonExportPart
from backoffice.sections.site_settings.models import Setting
from backoffice.sections.staff.models import ApiKey, SignInBudget, SignInFailure, Staff
from backoffice.sections.submissions.models import Submission
from backoffice.sections.users.models import User

__all__ = [
    "ApiKey",
    "Conflict",
    "Form",
    "ImportSuppression",
    "PersonExport",
    "PersonExportPart",
    "Setting",
    "SignInBudget",
    "SignInFailure",
    "Staff",
    "Submission",
    "User",
]

# A section that is a Django app of its own has its models there.
for name in settings.SECTIONS:
    module = f"{name.rpartition('.')[0]}.models"
    if module.startswith("backoffice.") and find_spec(module):
        import_module(module)
