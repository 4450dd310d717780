"""The pages of a kind of record under Django's own names (`admin:backoffice_user_changelist` …)."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from backoffice import section
from backoffice.web.history import HistoryAdmin
from backoffice.web.kind_admin import Route
from backoffice.web.lists import ListAdmin
from backoffice.web.records import EditAdmin


class RecordAdmin(ListAdmin, EditAdmin, HistoryAdmin):
    """All pages of a kind of record.

    Django's admin finds the model, its permissions and its links here; the pages are ours, because a record is never
    saved by a form but by a command.
    """

    def get_urls(self) -> list[URLPattern]:
        prefix = f"backoffice_{self.kind.category}"
        return [
            path(route, self.admin_site.admin_view(view), name=f"{prefix}_{name}")
            for route, name, view in (*self._own_routes(), *self._added_routes(), self._last_route())
        ]

    def _own_routes(self) -> Sequence[Route]:
        return (
            ("", "changelist", self.list_page),
            ("rows/", "rows", self.rows),
            ("add/", "add", self.add_page),
            ("<str:key>/change/", "change", self.change_page),
            ("<str:key>/live/", "live", self.live),
            ("<str:key>/delete/", "delete", self.delete_page),
            ("<str:key>/restore/", "restore", self.restore),
            ("<str:key>/history/", "history", self.history_page),
            ("<str:key>/history/<int:version>/", "version", self.version_page),
            ("<str:key>/history/<int:version>/restore/", "rollback", self.rollback_page),
            ("<str:key>/compare/", "compare", self.compare_page),
        )

    def _added_routes(self) -> Sequence[Route]:
        return [route for one in section.sections() for pages in one.record_pages for route in pages(self).routes()]

    def _last_route(self) -> Route:
        return "<str:key>/", "record", self.to_change

    def to_change(self, request: HttpRequest, key: str) -> HttpResponse:
        return HttpResponseRedirect(reverse(self.kind.url("change"), args=[key]))
