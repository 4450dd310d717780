"""The admin without a network: service worker, page of queued edits, signed-in person. See docs/offline.md."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import ensure_csrf_cookie

from backoffice import access, section
from realtime import auth

WORKER: Final = "backoffice/offline/worker.js"
RETIRED: Final = "backoffice/offline/retired.js"
PARTS: Final = ("backoffice/", "realtime/", "admin/css/base.css", "admin/js/theme.js")
LEFT_OUT: Final = (WORKER, RETIRED, "backoffice/api-docs.css", "backoffice/api-docs.js")
PAGES: Final = ("admin/backoffice/offline.html", "admin/base_site.html")

# The content security policy of the worker, which is not a page: the only sources it may load.
POLICY: Final = "default-src 'none'; script-src 'self'; connect-src 'self'"

# Header: the person a page belongs to. The worker caches pages of one person only, and deletes them when this changes.
PERSON: Final = "X-Person"
# Header: the worker may cache this page, with the files of this release. It never decides by the URL.
KEEP: Final = "X-Keep"


# -- the service worker ---------------------------------------------------------------------------------------------


def worker(_request: HttpRequest) -> HttpResponse:
    """Returns the worker's script, preceded by its manifest: a changed manifest is a new worker.

    It needs no sign-in: a browser must always be able to fetch a newer worker, or one that unregisters itself
    (`OFFLINE=0`).
    """
    if settings.OFFLINE:
        script = f"self.formease = {json.dumps(manifest(), sort_keys=True)};\n{_source(WORKER)}"
    else:
        script = _source(RETIRED)
    response = HttpResponse(script, content_type="text/javascript; charset=utf-8")
    response["Cache-Control"] = "no-cache"
    response["Content-Security-Policy"] = POLICY
    return response


def mark_kept(response: HttpResponse) -> None:
    """Marks a page that the worker may cache with its release: it needs the files of the same release."""
    response[KEEP] = manifest()["version"]


def manifest() -> dict[str, Any]:
    """Returns the worker's manifest.

    version  changes with every file of `parts`, the worker and the templates
    parts    URL -> hash, as `fetch(…, {integrity})` takes it
    words    URL of the catalogue of translations
    page     URL of the page for URLs that are not cached
    records  pattern of the pages that may be cached
    """
    return _manifest() if not settings.DEBUG else _manifest.__wrapped__()


@functools.cache
def _manifest() -> dict[str, Any]:
    contents = {settings.STATIC_URL + name: Path(path).read_bytes() for name, path in _parts()}
    parts = {address: _integrity(content) for address, content in sorted(contents.items())}
    templates = [Path(str(get_template(name).origin)).read_bytes() for name in PAGES]  # type: ignore[attr-defined]
    seal = json.dumps(parts).encode() + _source(WORKER).encode() + b"".join(templates)
    root = reverse("admin:index")
    kinds = "|".join(kind.category for kind in section.kinds() if kind.offline)
    return {
        "version": hashlib.sha256(seal).hexdigest()[:16],
        "parts": parts,
        "words": reverse("javascript-catalog"),
        "page": reverse("admin:offline"),
        "records": f"^{root}backoffice/({kinds})/[^/]+/change/$",
    }


def _parts() -> Iterator[tuple[str, str]]:
    """Yields the static files of the pages: the name in their URL, with a hash in production, and the path."""
    added = {f"{name.partition('/')[0]}/" for one in section.sections() for name in (*one.styles, *one.modules)}
    prefixes = (*PARTS, *sorted(added))

    def is_part(name: str) -> bool:
        return name.startswith(prefixes) and name not in LEFT_OUT

    hashed = {} if settings.DEBUG else getattr(staticfiles_storage, "hashed_files", {})
    if hashed:
        yield from ((name, staticfiles_storage.path(name)) for plain, name in hashed.items() if is_part(plain))
        return
    found: dict[str, str] = {}
    for finder in finders.get_finders():
        for name, storage in finder.list([]):
            if is_part(name):
                found.setdefault(name, storage.path(name))
    yield from found.items()


def _integrity(content: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


def _source(name: str) -> str:
    path = finders.find(name)
    assert isinstance(path, str), name
    return Path(path).read_text(encoding="utf-8")


# -- pages ----------------------------------------------------------------------------------------------------------


class Page:
    """Shows the edits that are queued in this browser, filled in by script.

    `?shell=1` is the same page without a person's name: the worker caches that one, and shows it for URLs that it has
    not cached.
    """

    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def __call__(self, request: HttpRequest) -> HttpResponse:
        signed_in = "shell" not in request.GET and access.role_of(request.user) is not None
        title = _("Offline edits")
        context = {**self.site.each_context(request), "has_permission": signed_in, "title": title}
        response = TemplateResponse(request, "admin/backoffice/offline.html", context)
        response["Cache-Control"] = "no-store"
        if signed_in:
            mark_owner(request, response)
        return response


@ensure_csrf_cookie
def person(request: HttpRequest) -> HttpResponse:
    """Returns the signed-in person and session as `{person, session}`; null without one.

    Scripts request it before they send edits, and to test the connection. It sets the CSRF token of the session.
    """
    there = access.role_of(request.user) is not None
    response = JsonResponse(
        {"person": request.user.pk if there else None, "session": session(request) if there else None}
    )
    response["Cache-Control"] = "no-store"
    return response


def session(request: HttpRequest) -> str:
    """Returns an identifier of the session that does not reveal it: tabs of one session share a connection."""
    key = request.session.session_key
    return auth.session_digest(key) if key else ""


def mark_owner(request: HttpRequest, response: HttpResponse) -> None:
    """Marks a page with the person it belongs to."""
    if request.user.is_authenticated:
        response[PERSON] = str(request.user.pk)


def is_of_another_person(request: HttpRequest) -> bool:
    """Returns whether the page that sent this request belongs to a person other than the signed-in one."""
    return request.headers.get(PERSON, str(request.user.pk)) != str(request.user.pk)
