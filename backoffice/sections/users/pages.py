"""The title of a user's page, and the panel of their forms."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext as _

from backoffice import access, models, section
from backoffice.web import lists

LATEST: Final = 5


def title(user: models.User | None, staff: Any) -> str:
    """Returns a customer's name, else the address if this person may see it."""
    if user is None:
        return _("Unknown user")
    if user.erased_at:
        return _("Erased user")
    if full := user.get_full_name():
        return full
    return _("Unnamed user") if "email" in access.hidden_fields(staff, "user") else user.email


def panels(row: models.User, staff: Any) -> dict[str, Any]:
    """Returns a user's forms."""
    if not access.may(staff, "view", "form"):
        return {}
    found = models.Form.objects.filter(user_id=row.pk, deleted_at=None).order_by("-created_at")[: LATEST + 1]
    listed = list(found)
    return {
        "forms": lists.decorated(section.kind("form"), listed[:LATEST], staff),
        "more_forms": len(listed) > LATEST,
        "may_add_form": access.may(staff, "create", "form"),
    }
