"""The base class of the operator pages, and the decorators that guard them.

`page` and `action` check the right and limit how long a statement may take. A page refreshes itself while it is open
(`system.js`): with ``?fragment=1`` the answer is only the part that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from backoffice import access
from events import errors
from events.db import timeouts
from metrics.monitoring import alerts_beside, sparklines

STATEMENT_SECONDS: Final = 5.0  # limit for one statement of a page
POLL_MS: Final = 2_000
ACTIONS: Final = ("view", "replay", "skip", "rebuild", "verify")

Arguments = ParamSpec("Arguments")
Pages = TypeVar("Pages", bound="OperatorPages")
View = Callable[Concatenate[Pages, HttpRequest, Arguments], HttpResponse]


class Route(NamedTuple):
    """One URL below ``system/``: its path, its name without the prefix ``system_``, and its view."""

    path: str
    name: str
    view: Callable[..., HttpResponse]


class OperatorPages:
    """Pages of one kind for the operators of the running system; each view is a method."""

    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def routes(self) -> Sequence[Route]:
        raise NotImplementedError

    def render(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        """A page with a part that changes: ``<name>.html`` around ``<name>_part.html`` and its charts."""
        as_of = timezone.localtime()
        shared = {
            "as_of": as_of,
            "poll_ms": POLL_MS,
            "may": allowed_actions(request),
            "may_see_events": access.may(request.user, "view", "event"),
            "may_read_errors": access.may_read_errors(request.user),
            "part": f"admin/backoffice/system/{name}_part.html",
            "sparklines": sparklines.of_page(name),
            "alerts_beside": alerts_beside.of_page(name, request.user, str(context.get("name", ""))),
        }
        if request.GET.get("fragment"):
            response = TemplateResponse(request, "admin/backoffice/system/fragment.html", shared | context)
            response["Cache-Control"] = "no-store"
            response["X-As-Of"] = f"{as_of:%H:%M:%S}"
            return response
        whole = {**self.site.each_context(request), **shared, **context}
        return TemplateResponse(request, f"admin/backoffice/system/{name}.html", whole)

    def busy(self, request: HttpRequest) -> HttpResponse:
        """The 503 response when a statement took longer than `STATEMENT_SECONDS`."""
        context = self.site.each_context(request) | {"title": _("The database is busy")}
        return TemplateResponse(request, "admin/backoffice/system/timeout_notice.html", context, status=503)


def allowed_actions(request: HttpRequest) -> dict[str, bool]:
    """Maps each action to whether this person may perform it."""
    return {action: access.may(request.user, action, "system") for action in ACTIONS}


def require(request: HttpRequest, action: str) -> None:
    """Raises `PermissionDenied` unless this person may perform `action` on the running system."""
    if not access.may(request.user, action, "system"):
        raise PermissionDenied


def page(view: View[Pages, Arguments]) -> View[Pages, Arguments]:
    """Decorates a page: requires the right to view it, and answers 503 instead of waiting for a busy database."""

    @wraps(view)
    def guarded(
        self: Pages, request: HttpRequest, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> HttpResponse:
        require(request, "view")
        try:
            with timeouts.at_most(STATEMENT_SECONDS):
                return view(self, request, *args, **kwargs)
        except errors.TookTooLong:
            return self.busy(request)

    return guarded


def action(name: str) -> Callable[[View[Pages, Arguments]], View[Pages, Arguments]]:
    """Decorates the view of a form: requires the right to perform the action, and the method POST."""

    def guard(view: View[Pages, Arguments]) -> View[Pages, Arguments]:
        @wraps(view)
        def guarded(
            self: Pages, request: HttpRequest, /, *args: Arguments.args, **kwargs: Arguments.kwargs
        ) -> HttpResponse:
            require(request, name)
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            return view(self, request, *args, **kwargs)

        return guarded

    return guard
