"""What the pages of who keeps it running share.

`page` and `deed` guard each: the right, and how long a statement of a page may take. A page draws itself anew while it
is open (`system.js`): with ``?fragment=1`` it is only the part that changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from backoffice import access
from events import errors
from events.db import timeouts

PATIENCE: Final = 5.0  # seconds a statement of a page may take
POLL_MS: Final = 2_000
ACTIONS: Final = ("view", "replay", "skip", "rebuild", "verify")

View = Callable[..., HttpResponse]


def demand(request: HttpRequest, action: str) -> None:
    """Refuse whoever may not do this to the running system."""
    if not access.may(request.user, action, "system"):
        raise PermissionDenied


def page(view: View) -> View:
    """A page for who may look. What takes longer than `PATIENCE` is told instead of waited for."""

    @wraps(view)
    def guarded(site: AdminSite, request: HttpRequest, **args: Any) -> HttpResponse:
        demand(request, "view")
        try:
            with timeouts.at_most(PATIENCE):
                return view(site, request, **args)
        except errors.TookTooLong:
            return slow(site, request)

    return guarded


def deed(action: str) -> Callable[[View], View]:
    """Something that who may do `action` has done by a form; the view gets the request and what the address names."""

    def guard(view: View) -> View:
        @wraps(view)
        def guarded(_site: AdminSite, request: HttpRequest, **args: Any) -> HttpResponse:
            demand(request, action)
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            return view(request, **args)

        return guarded

    return guard


def slow(site: AdminSite, request: HttpRequest) -> HttpResponse:
    context = site.each_context(request) | {"title": _("The database is busy")}
    return TemplateResponse(request, "admin/backoffice/system/timeout_notice.html", context, status=503)


def drawn(site: AdminSite, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    """A page with a part that changes: ``<name>.html`` around ``<name>_part.html``."""
    as_of = timezone.localtime()
    shared = {
        "as_of": as_of,
        "poll_ms": POLL_MS,
        "may": {action: access.may(request.user, action, "system") for action in ACTIONS},
        "may_see_events": access.may(request.user, "view", "event"),
        "may_read_errors": access.may_read_errors(request.user),
    }
    if request.GET.get("fragment"):
        response = TemplateResponse(request, f"admin/backoffice/system/{name}_part.html", shared | context)
        response["Cache-Control"] = "no-store"
        response["X-As-Of"] = f"{as_of:%H:%M:%S}"
        return response
    whole = {**site.each_context(request), **shared, **context, "part": f"admin/backoffice/system/{name}_part.html"}
    return TemplateResponse(request, f"admin/backoffice/system/{name}.html", whole)
