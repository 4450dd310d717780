"""The admin site itself: its name, its navigation, its overview, its search."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, URLResolver, path, reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import access, listing, models
from backoffice.sections.staff import passwords, sign_in
from backoffice.sections.staff import sign_in_forms as signin_forms
from events import errors

RECENT: Final = 12
HITS: Final = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """An entry of the navigation: where it leads, who sees it, the key that goes there after `g`."""

    label: str | Promise
    url_name: str
    icon: str
    group: str | Promise
    opens: Callable[[Any], bool]
    key: str = ""
    count: Callable[[Any], int] | None = None


def _waiting(staff: Any) -> int:
    from backoffice.sections.conflicts import pages as conflicts  # noqa: PLC0415 - it needs the apps to be ready

    return conflicts.waiting(staff)


def _settles(staff: Any) -> bool:
    return any(access.may(staff, action, category) for category in access.CATEGORIES for action in ("update", "set"))


def _sees(category: str) -> Callable[[Any], bool]:
    return lambda staff: access.may(staff, "view", category)


_RECORDS, _OPERATIONS, _SYSTEM = gettext_lazy("Records"), gettext_lazy("Operations"), gettext_lazy("System")

# Everything the side shows, in order; a room that is built later adds its line.
NAVIGATION: list[Door] = [
    Door(label=gettext_lazy("Overview"), url_name="admin:index", icon="overview", group="", opens=bool, key="h"),
    Door(
        label=gettext_lazy("Conflicts"),
        url_name="admin:backoffice_conflict_changelist",
        icon="merge",
        group="",
        opens=_settles,
        key="c",
        count=_waiting,
    ),
    Door(
        label=gettext_lazy("Users"),
        url_name="admin:backoffice_user_changelist",
        icon="users",
        group=_RECORDS,
        opens=_sees("user"),
        key="u",
    ),
    Door(
        label=gettext_lazy("Forms"),
        url_name="admin:backoffice_form_changelist",
        icon="forms",
        group=_RECORDS,
        opens=_sees("form"),
        key="f",
    ),
    Door(
        label=gettext_lazy("Submissions"),
        url_name="admin:backoffice_submission_changelist",
        icon="submissions",
        group=_RECORDS,
        opens=_sees("submission"),
        key="s",
    ),
    Door(
        label=gettext_lazy("Settings"),
        url_name="admin:backoffice_setting_changelist",
        icon="settings",
        group=_OPERATIONS,
        opens=_sees("setting"),
        key="t",
    ),
    Door(
        label=gettext_lazy("Staff"),
        url_name="admin:backoffice_staff_changelist",
        icon="staff",
        group=_OPERATIONS,
        opens=lambda staff: access.role_of(staff) == "admin",
        key="a",
    ),
    Door(
        label=gettext_lazy("Events"),
        url_name="admin:events_storedevent_changelist",
        icon="events",
        group=_SYSTEM,
        opens=_sees("event"),
        key="e",
    ),
    Door(
        label=gettext_lazy("Subscriptions"),
        url_name="admin:system_subscriptions",
        icon="flow",
        group=_SYSTEM,
        opens=_sees("system"),
        key="b",
    ),
    Door(
        label=gettext_lazy("Log head"),
        url_name="admin:system_head",
        icon="head",
        group=_SYSTEM,
        opens=_sees("system"),
        key="l",
    ),
    Door(
        label=gettext_lazy("Rebuilds"),
        url_name="admin:system_rebuilds",
        icon="rebuild",
        group=_SYSTEM,
        opens=_sees("system"),
        key="r",
    ),
    Door(
        label=gettext_lazy("Live connections"),
        url_name="admin:system_sockets",
        icon="live",
        group=_SYSTEM,
        opens=_sees("system"),
        key="w",
    ),
    Door(
        label=gettext_lazy("API keys"),
        url_name="admin:backoffice_apikey_changelist",
        icon="key",
        group=_SYSTEM,
        opens=lambda staff: access.role_of(staff) == "admin",
        key="k",
    ),
]


def _refuse_repeated(request: HttpRequest) -> None:
    """Raises 400 for a parameter that occurs twice: a page would use one value and ignore the other."""
    for name, found in request.GET.lists():
        if len(found) > 1:
            raise BadRequest(f"The parameter {name!r} occurs {len(found)} times.")


class BackofficeSite(admin.AdminSite):
    site_header = site_title = gettext_lazy("FormEase backoffice")
    index_title = gettext_lazy("Overview")
    index_template = "admin/backoffice/overview.html"
    login_form = signin_forms.SignInForm
    logout_template = "admin/logged_out.html"
    enable_nav_sidebar = False

    def get_urls(self) -> list[URLResolver | URLPattern]:
        from backoffice.web import offline  # noqa: PLC0415 - they need the apps to be ready
        from metrics.monitoring import pages as system  # noqa: PLC0415 - they need the apps to be ready

        own: list[URLResolver | URLPattern] = [
            path("search/", self.admin_view(self.search), name="search"),
            path("worker.js", offline.worker, name="worker"),
            path("offline/", partial(offline.page, self), name="offline"),
            path("offline/person/", offline.person, name="offline_person"),
        ]
        return own + system.urls(self) + super().get_urls()

    def admin_view(self, view: Callable[..., HttpResponse], cacheable: bool = False) -> Callable[..., HttpResponse]:  # type: ignore[override]
        """Every page says whose it is: a browser keeps none of somebody else's."""
        from backoffice.web import offline  # noqa: PLC0415

        guarded = super().admin_view(view, cacheable)

        @functools.wraps(guarded)
        def signed(request: HttpRequest, *args: Any, **named: Any) -> HttpResponse:
            _refuse_repeated(request)
            try:
                response = guarded(request, *args, **named)
            except passwords.Busy:
                response = self.busy(request)
            except errors.UnreadableEvent as error:
                context = {**self.each_context(request), "title": _("Unreadable event"), "error": error}
                response = TemplateResponse(request, "admin/backoffice/unreadable.html", context, status=error.status)
            offline.sign(request, response)
            return response

        return signed

    def busy(self, request: HttpRequest) -> HttpResponse:
        """The answer when a page had to hash a password and too many others had to as well."""
        context = {**self.each_context(request), "title": _("Too busy")}
        response = TemplateResponse(request, "admin/backoffice/too_busy.html", context, status=503)
        response["Retry-After"] = str(passwords.RETRY_AFTER)
        return response

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The page after it names who left, so that the browser forgets what it kept for them."""
        return super().logout(request, {"left": request.user.pk, **(extra_context or {})})

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        from backoffice.web import offline  # noqa: PLC0415

        return super().each_context(request) | {
            "doors": doors(request),
            "works_offline": settings.OFFLINE,
            "session": offline.session(request),
            "role_label": models.Staff.Role(role).label if (role := access.role_of(request.user)) else "",
        }

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The overview: numbers that are cheap, and the last events as they come."""
        from backoffice.sections.event_log import event_browser  # noqa: PLC0415 - they need the apps to be ready
        from backoffice.web import log_position  # noqa: PLC0415 - they need the apps to be ready

        stamp = log_position.now()
        context = {
            "stamp": stamp,
            "figures": _figures(request.user),
            "rows": event_browser.latest(request.user, RECENT),
        }
        return super().index(request, context | (extra_context or {}))

    def app_index(  # type: ignore[override]
        self,
        request: HttpRequest,
        app_label: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Django's page for one app is a second, plainer navigation; ours is enough."""
        return HttpResponseRedirect(reverse("admin:index"))

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The only way in for people, within its limits: `signin`."""
        response = super().login(request, extra_context)
        form = (getattr(response, "context_data", None) or {}).get("form")
        if form is None and request.method == "POST" and request.user.is_authenticated:
            sign_in.remember_device(request, response, request.user.pk)
        elif form is not None and form.refusal is not None:
            signin_forms.refuse(response, form.refusal)
        return response

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One's own password; other sessions end, and the log says so."""
        request.current_app = self.name
        view: Callable[..., Any] = PasswordChangeView.as_view(
            form_class=signin_forms.OwnPasswordForm,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        response: HttpResponse = view(request)
        if request.method == "POST" and response.status_code == HTTPStatus.FOUND:
            assert isinstance(request.user, models.Staff)
            sign_in.remember_device(request, response, request.user.pk)  # it was known by the old password
        return response

    def search(self, request: HttpRequest) -> HttpResponse:
        """Records of all kinds at once; `?fragment=1` is what the command bar shows."""
        words = request.GET.get("q", "").strip()[:200]
        context = {
            **self.each_context(request),
            "title": _("Search"),
            "q": words,
            "groups": _hits(words, request.user) if words else [],
        }
        part = "search_results" if request.GET.get("fragment") else "search"
        return TemplateResponse(request, f"admin/backoffice/{part}.html", context)


def doors(request: HttpRequest) -> list[dict[str, Any]]:
    """The navigation for this person, in groups; what is not built or not theirs is left out."""
    groups: list[dict[str, Any]] = []
    for door in NAVIGATION:
        try:
            url = reverse(door.url_name)
        except NoReverseMatch:
            continue
        if not request.user.is_authenticated or not door.opens(request.user):
            continue
        here = request.path == url if door.url_name == "admin:index" else request.path.startswith(url)
        if not groups or groups[-1]["label"] != door.group:
            groups.append({"label": door.group, "doors": []})
        count = door.count(request.user) if door.count else None
        groups[-1]["doors"].append({"door": door, "url": url, "here": here, "count": count})
    return groups


def _figures(staff: Any) -> list[dict[str, Any]]:
    """How many there are of each, counted no further than the lists count, and how many came in a day."""
    from backoffice.web.resources import FORMS, SUBMISSIONS, USERS  # noqa: PLC0415

    day = timezone.now() - timedelta(days=1)
    figures = []
    for resource in (USERS, FORMS, SUBMISSIONS):
        if access.may(staff, "view", resource.category):
            living = listing.matching(resource.name)
            total, exact = listing.total_of(living)
            fresh, fresh_exact = listing.total_of(living.filter(created_at__gte=day))
            figures.append(
                {
                    "resource": resource,
                    "label": resource.model._meta.verbose_name_plural,
                    "url": reverse(resource.url("changelist")),
                    "total": total,
                    "exact": exact,
                    "fresh": fresh,
                    "fresh_exact": fresh_exact,
                }
            )
    return figures


def _hits(words: str, staff: Any) -> list[dict[str, Any]]:
    from backoffice.web import lists  # noqa: PLC0415
    from backoffice.web.resources import RESOURCES  # noqa: PLC0415

    groups: list[dict[str, Any]] = []
    for resource in RESOURCES.values():
        if not access.may(staff, "view", resource.category):
            continue
        if resource.category == "submission" and not _is_id(words):
            continue  # found through their form
        hidden = access.hidden_fields(staff, resource.category)
        page = listing.page(resource.name, search=words, limit=HITS, hidden=hidden, count=False)
        rows: Sequence[dict[str, Any]] = lists.decorated(resource, page.items, staff)
        if rows:
            groups.append({"resource": resource, "rows": rows, "more": page.has_next})
    return groups


def _is_id(words: str) -> bool:
    try:
        uuid.UUID(words)
    except ValueError:
        return False
    return True
