"""Staff: logins, how they sign in, and the API keys that act for them."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from backoffice import access, models, navigation
from backoffice.section import Section
from backoffice.sections.staff import sign_in, sockets, tasks
from backoffice.sections.staff.api_keys import ApiKeyAdmin
from backoffice.sections.staff.pages import StaffAdmin


def _ready() -> None:
    sign_in.connect_signals()
    sockets.authenticate_keys()


SECTION = Section(
    name="staff",
    navigation=(
        *navigation.of_pages(
            "running", access.is_admin, (_("Staff"), "admin:backoffice_staff_changelist", "staff", "a")
        ),
        *navigation.of_pages(
            "system",
            access.is_admin,
            (_("API keys"), "admin:backoffice_apikey_changelist", "key", "k"),
            order=1,  # below the entries about the running system
        ),
    ),
    admins={models.Staff: StaffAdmin, models.ApiKey: ApiKeyAdmin},
    revocations=sockets.REVOCATIONS,
    tasks=(tasks.record_failed_sign_ins,),
    ready=_ready,
)
