"""The admin site: name, navigation, overview and search."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from backoffice import access, listing, models, navigation, section
from events import errors

RECENT: Final = 12
HITS: Final = 6


def _refuse_repeated(request: HttpRequest) -> None:
    """Raises 400 for a parameter that occurs twice: a page would use one value and ignore the other."""
    for name, found in request.GET.lists():
        if len(found) > 1:
            raise BadRequest(f"The parameter {name!r} occurs {len(found)} times.")


class BackofficeSite(admin.AdminSite):
    site_header = site_title = gettext_lazy("FormEase backoffice")
    index_title = gettext_lazy("Overview")
    index_template = "admin/backoffice/overview.html"
    logout_template = "admin/logged_out.html"
    enable_nav_sidebar = False
    answered: tuple[type[Exception], ...] = (errors.UnreadableEvent,)

    def get_urls(self) -> list[URLResolver | URLPattern]:
        from backoffice.web import offline  # noqa: PLC0415 - they need the apps to be ready

        own: list[URLResolver | URLPattern] = [
            path("search/", self.admin_view(self.search), name="search"),
            path("worker.js", offline.worker, name="worker"),
            path("offline/", offline.Page(self), name="offline"),
            path("offline/person/", offline.person, name="offline_person"),
        ]
        declared = [url for one in section.sections() if one.admin_urls for url in one.admin_urls(self)]
        return [*own, *declared, *super().get_urls()]

    def admin_view(  # type: ignore[override]
        self, view: Callable[..., HttpResponse], cacheable: bool = False
    ) -> Callable[..., HttpResponse]:
        """Marks every page with its person, so that browsers never show cached pages of someone else."""
        from backoffice.web import offline  # noqa: PLC0415

        guarded = super().admin_view(view, cacheable)

        @functools.wraps(guarded)
        def signed(request: HttpRequest, *args: Any, **named: Any) -> HttpResponse:
            _refuse_repeated(request)
            try:
                response = guarded(request, *args, **named)
            except self.answered as error:
                response = self.answer(request, error)
            offline.mark_owner(request, response)
            return response

        return signed

    def answer(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Returns the response to one of the `answered` errors."""
        context = {**self.each_context(request), "title": _("Unreadable event"), "error": error}
        status = error.status if isinstance(error, errors.EventsError) else 500
        return TemplateResponse(request, "admin/backoffice/unreadable.html", context, status=status)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Signs out. The next page names the person, so that the browser deletes their cached data."""
        return super().logout(request, {"left": request.user.pk, **(extra_context or {})})

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        from backoffice.web import offline  # noqa: PLC0415

        return super().each_context(request) | {
            **navigation.assets(),
            "navigation": navigation.groups(request),
            "header_items": navigation.header_items(request),
            "works_offline": settings.OFFLINE,
            "session": offline.session(request),
            "role_label": models.Staff.Role(role).label if (role := access.role_of(request.user)) else "",
        }

    def index(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Returns the index page of a section; without one the overview: record counts and the last events."""
        if declared := section.index():
            return declared.view(self, request)
        from backoffice.web import event_rows, log_position  # noqa: PLC0415 - they need the apps to be ready

        stamp = log_position.now()
        context = {
            "stamp": stamp,
            "figures": _figures(request.user),
            "rows": event_rows.latest(request.user, RECENT),
        }
        return super().index(request, context | (extra_context or {}))

    def app_index(  # type: ignore[override]
        self,
        request: HttpRequest,
        app_label: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Redirects to the index: Django's page for one app would be a second navigation."""
        return HttpResponseRedirect(reverse("admin:index"))

    def search(self, request: HttpRequest) -> HttpResponse:
        """Searches records of all kinds. `?fragment=1` returns the results for the command bar."""
        words = request.GET.get("q", "").strip()[:200]
        context = {
            **self.each_context(request),
            "title": pgettext("page", "Search"),
            "q": words,
            "groups": _hits(words, request.user) if words else [],
        }
        part = "search_results" if request.GET.get("fragment") else "search"
        return TemplateResponse(request, f"admin/backoffice/{part}.html", context)


def _figures(staff: Any) -> list[dict[str, Any]]:
    """Returns for each kind the numbers of records and of new ones in 24 hours, counted up to a cap."""
    day = timezone.now() - timedelta(days=1)
    figures = []
    for kind in section.kinds():
        if kind.on_overview and access.may(staff, "view", kind.category):
            living = listing.matching(kind.spec)
            total, exact = listing.total_of(living)
            fresh, fresh_exact = listing.total_of(living.filter(created_at__gte=day))
            figures.append(
                {
                    "resource": kind,
                    "label": kind.plural,
                    "url": reverse(kind.url("changelist")),
                    "total": total,
                    "exact": exact,
                    "fresh": fresh,
                    "fresh_exact": fresh_exact,
                }
            )
    return figures


def _hits(words: str, staff: Any) -> list[dict[str, Any]]:
    from backoffice.web import lists  # noqa: PLC0415 - it needs the apps to be ready

    groups: list[dict[str, Any]] = []
    for kind in section.kinds():
        if not access.may(staff, "view", kind.category):
            continue
        if kind.found_by_id_only and not _is_id(words):
            continue
        hidden = access.hidden_fields(staff, kind.category)
        page = listing.page(kind.spec, search=words, limit=HITS, hidden=hidden, count=False)
        rows: Sequence[dict[str, Any]] = lists.decorated(kind, page.items, staff)
        if rows:
            groups.append({"resource": kind, "rows": rows, "more": page.has_next})
    return groups


def _is_id(words: str) -> bool:
    try:
        uuid.UUID(words)
    except ValueError:
        return False
    return True
