"""Staff: logins, how they sign in, and the API keys that act for them."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from backoffice import access, models
from backoffice.section import NavItem, Section
from backoffice.sections.staff import sign_in, sockets, tasks
from backoffice.sections.staff.api_keys import ApiKeyAdmin
from backoffice.sections.staff.pages import StaffAdmin


def _ready() -> None:
    sign_in.connect_signals()
    sockets.authenticate_keys()


SECTION = Section(
    name="staff",
    navigation=(
        NavItem(
            label=_("Staff"),
            url_name="admin:backoffice_staff_changelist",
            icon="staff",
            group="running",
            visible=access.is_admin,
            key="a",
        ),
        NavItem(
            label=_("API keys"),
            url_name="admin:backoffice_apikey_changelist",
            icon="key",
            group="system",
            visible=access.is_admin,
            key="k",
            order=1,  # after what keeps the system running
        ),
    ),
    admins={models.Staff: StaffAdmin, models.ApiKey: ApiKeyAdmin},
    revocations=sockets.REVOCATIONS,
    tasks=(tasks.record_failed_sign_ins,),
    ready=_ready,
)
