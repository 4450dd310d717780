"""The admin without a network: the service worker, the page of waiting edits, who is signed in. See docs/offline.md."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.staticfiles import finders
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

# What the worker may load, and nothing else: a policy of its own, for it is no page.
POLICY: Final = "default-src 'none'; script-src 'self'; connect-src 'self'"

# Whose page this is. The worker keeps pages of one person only, and throws them away when it reads another name here.
PERSON: Final = "X-Person"
# The worker may keep this page. It is never guessed from an address.
KEEP: Final = "X-Keep"


# -- the service worker ---------------------------------------------------------------------------------------------


def worker(_request: HttpRequest) -> HttpResponse:
    """The worker's script, with the list of what it keeps in front: another list is another worker. Nobody has to be
    signed in: a browser must be able to fetch a newer worker, or one that retires itself (`OFFLINE=0`), at any time.
    """
    if settings.OFFLINE:
        script = f"self.formease = {json.dumps(manifest(), sort_keys=True)};\n{_source(WORKER)}"
    else:
        script = _source(RETIRED)
    response = HttpResponse(script, content_type="text/javascript; charset=utf-8")
    response["Cache-Control"] = "no-cache"
    response["Content-Security-Policy"] = POLICY
    return response


def manifest() -> dict[str, Any]:
    """What the worker is told.

    version  changes with anything in the shell      parts    address -> hash, as `fetch(…, {integrity})` takes it
    words    the catalogue of texts                  page     what is shown where nothing is kept
    records  pattern of the pages that may be kept
    """
    return _manifest() if not settings.DEBUG else _manifest.__wrapped__()


@functools.cache
def _manifest() -> dict[str, Any]:
    contents = {settings.STATIC_URL + name: Path(path).read_bytes() for name, path in _parts().items()}
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


def _parts() -> dict[str, str]:
    """Static files of the pages under their plain names: name -> path. (A page of an older release asks for a name with
    a hash in it; without a network it gets the file of now.)"""
    found: dict[str, str] = {}
    for finder in finders.get_finders():
        for name, storage in finder.list([]):
            if name.startswith(PARTS) and name not in LEFT_OUT:
                found.setdefault(name, storage.path(name))
    return found


def _integrity(content: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


def _source(name: str) -> str:
    path = finders.find(name)
    assert isinstance(path, str), name
    return Path(path).read_text(encoding="utf-8")


# -- pages ----------------------------------------------------------------------------------------------------------


class Page:
    """The edits that wait in this browser, filled in by script. `?shell=1` is the same page without anybody's name in
    it: the worker keeps that one, and shows it wherever it has nothing else.
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
            sign(request, response)
        return response


@ensure_csrf_cookie
def person(request: HttpRequest) -> HttpResponse:
    """Who is signed in and in which session, as `{person, session}`, null for nobody: asked before anything is sent,
    and to see whether the server answers. Sets the CSRF token of the current session."""
    there = access.role_of(request.user) is not None
    response = JsonResponse(
        {"person": request.user.pk if there else None, "session": session(request) if there else None}
    )
    response["Cache-Control"] = "no-store"
    return response


def session(request: HttpRequest) -> str:
    """Names the session of a page, without giving it away: its tabs share a connection, and nobody else's do."""
    key = request.session.session_key
    return auth.session_digest(key) if key else ""


def sign(request: HttpRequest, response: HttpResponse) -> None:
    """Say on a page whose it is."""
    if request.user.is_authenticated:
        response[PERSON] = str(request.user.pk)


def is_somebody_elses(request: HttpRequest) -> bool:
    """Was this sent by the page of a person other than the one who is signed in by now?"""
    return request.headers.get(PERSON, str(request.user.pk)) != str(request.user.pk)
