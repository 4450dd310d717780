"""Error pages: the product's design, both languages, a link back, and no dependency on services."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.urls import path

from backoffice import error_pages, urls
from devtools import processes
from tests import factories, live
from tests.backoffice import api_client

PAGES = ("400", "403", "403_csrf", "404", "413", "500", "503")
HEADINGS = {
    400: "Invalid request",
    403: "You cannot open this page",
    404: "Page not found",
    413: "Too much data",
    500: "Something went wrong",
    503: "Temporarily unavailable",
}


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a fault")


def sized(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.POST)))


def suspicious(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation


urlpatterns = [
    path("broken/", broken),
    path("sized/", sized),
    path("suspicious/", suspicious),
    path("api/broken/", broken),
    *urls.urlpatterns,
]
handler400, handler403, handler404, handler500 = (urls.handler400, urls.handler403, urls.handler404, urls.handler500)


@pytest.fixture
def own_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


def shown(response: Any, status: int, heading: str = "") -> str:
    assert response.status_code == status
    assert response["Cache-Control"].startswith("no-store")
    text = str(response.content.decode())
    assert "backoffice/app.css" in text
    assert f"<h1>{heading or HEADINGS[status]}</h1>" in text
    assert re.search(r'<a class="button[^>]*href="/admin/"', text)
    return text


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("addresses", ["backoffice.urls", "tests.backoffice.api_client"])
def test_page_renders_without_context_and_urls(settings: Any, name: str, addresses: str) -> None:
    """Django's own handlers render these pages too, with any URLconf."""
    api_client.urlpatterns = []  # type: ignore[attr-defined]
    settings.ROOT_URLCONF = addresses
    assert 'href="/admin/"' in render_to_string(f"{name}.html")


@pytest.mark.django_db
@pytest.mark.parametrize("debug", [False, True])
def test_role_that_may_not_open_a_page_gets_the_403_page(settings: Any, debug: bool) -> None:
    settings.DEBUG = debug
    client = api_client.signed_in("viewer").client
    shown(client.get("/admin/backoffice/user/add/"), 403)


@pytest.mark.django_db
@pytest.mark.parametrize("debug", [False, True])
def test_missing_record_gets_the_404_page(settings: Any, debug: bool) -> None:
    settings.DEBUG = debug
    client = api_client.signed_in("viewer").client
    shown(client.get("/admin/backoffice/user/018f0000-0000-7000-8000-000000000000/change/"), 404)


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/nowhere/", "/admin/nowhere/"])
def test_unknown_url_gets_the_404_page(address: str) -> None:
    shown(api_client.signed_in("viewer").client.get(address), 404)


@pytest.mark.django_db
@pytest.mark.parametrize("debug", [False, True])
def test_form_without_csrf_token_gets_a_page_with_a_remedy(settings: Any, debug: bool) -> None:
    settings.DEBUG = debug
    client = Client(enforce_csrf_checks=True)
    text = shown(client.post("/admin/login/", {"username": "a"}), 403, "This form has expired")
    assert "reload the page" in text


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("address", "status"), [("/admin/%00/", 404), ("/admin/?q=%00", 400)])
def test_url_with_nul_gets_an_error_page(settings: Any, db: None, debug: bool, address: str, status: int) -> None:
    settings.DEBUG = debug
    shown(Client().get(address), status)


@pytest.mark.parametrize("debug", [False, True])
def test_too_large_form_gets_the_413_page(settings: Any, own_urls: None, db: None, debug: bool) -> None:
    settings.DEBUG = debug
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    shown(Client().post("/sized/", {"text": "x" * 200}), 413)


def test_too_many_fields_get_the_413_page(settings: Any, own_urls: None, db: None) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 3
    shown(Client().post("/sized/", {str(number): "x" for number in range(9)}), 413)


@pytest.mark.parametrize("debug", [False, True])
def test_suspicious_request_gets_the_400_page(settings: Any, own_urls: None, db: None, debug: bool) -> None:
    settings.DEBUG = debug
    shown(Client().get("/suspicious/"), 400)


def test_unknown_host_gets_the_400_page(settings: Any, db: None) -> None:
    settings.ALLOWED_HOSTS = ["admin.example.org"]
    shown(Client().get("/admin/", headers={"Host": "evil.example", "Referer": "http://evil.example/"}), 400)


def test_exception_gets_the_500_page(own_urls: None, db: None) -> None:
    text = shown(Client(raise_request_exception=False).get("/broken/?q=1"), 500)
    assert 'href="/broken/?q=1"' in text  # try again
    assert "a fault" not in text


def test_failed_form_is_not_offered_as_a_link(own_urls: None, db: None) -> None:
    text = shown(
        Client(raise_request_exception=False).post("/broken/", headers={"Referer": "http://testserver/x/"}), 500
    )
    assert "/broken/" not in text
    assert 'href="http://testserver/x/"' in text


def test_failure_below_the_api_is_a_problem(own_urls: None, db: None) -> None:
    response = Client(raise_request_exception=False).get("/api/broken/")
    assert (response.status_code, response["Content-Type"]) == (500, "application/problem+json")
    assert response.json()["code"] == "internal_error"


@pytest.mark.parametrize(
    ("referrer", "back"),
    [
        ("http://testserver/admin/backoffice/user/", True),
        ("http://testserver/here/", False),  # the page that failed
        ("https://evil.example/", False),
        ("javascript:alert(1)", False),
        ('http://testserver/"><script>', True),
        ("", False),
    ],
)
def test_back_link_leads_only_to_pages_of_this_site(referrer: str, back: bool) -> None:
    request = RequestFactory().get("/here/", headers={"Referer": referrer})
    text = error_pages.page(request, 404).content.decode()
    assert ("Back to the previous page" in text) is back
    assert "<script>" not in text
    assert "javascript:" not in text


@pytest.mark.parametrize("language", ["en", "fr"])
def test_page_is_in_the_language_of_the_request(language: str) -> None:
    response = error_pages.page(RequestFactory().get("/here/", headers={"Accept-Language": language}), 404)
    assert response["Content-Language"] == language
    assert f'<html lang="{language}">' in response.content.decode()


def test_exception_in_the_error_page_still_gets_an_answer(settings: Any) -> None:
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    }
    response = error_pages.page(RequestFactory().get("/here/"), 500)
    assert response.status_code == 500
    assert b'href="/admin/"' in response.content


ASK = """
import asyncio, json, sys
from django.conf import settings
settings.DATABASES["default"]["OPTIONS"]["pool"]["timeout"] = 0.2
import django
django.setup()
from django.test import AsyncClient, Client
headers = {"Cookie": "sessionid=" + "a" * 32, "Accept-Language": "fr"}
async def ask(address):
    return await AsyncClient(raise_request_exception=False).get(address, headers=headers)
answers = [Client(raise_request_exception=False).get("/admin/", headers=headers)]
answers += [asyncio.run(ask(address)) for address in ("/admin/", "/api/v1/users/")]
print(json.dumps([[one.status_code, one["Retry-After"], one["Content-Type"], one.content.decode()] for one in answers]))
"""


@pytest.mark.services
def test_request_without_a_database_gets_503() -> None:
    environment = {
        **live.os.environ,
        "DATABASE_URL": f"postgres://me@127.0.0.1:{processes.free_port()}/nowhere",
        "DEBUG": "0",
        "SECRET_KEY": "k" * 40,
        "PRIVACY_KEYS": "2026:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "ALLOWED_HOSTS": "testserver",
        "SECURE_SSL_REDIRECT": "0",
        "DJANGO_SETTINGS_MODULE": "tests.plain_static_settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=live.PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sync, served, problem = json.loads(done.stdout)
    for status, retry, kind, text in (sync, served):
        assert (status, retry, kind) == (503, "5", "text/html; charset=utf-8")
        assert '<html lang="fr">' in text
        assert "backoffice/app.css" in text
    assert problem[:3] == [503, "5", "application/problem+json"]


@pytest.mark.browser
@pytest.mark.services
def test_error_pages_have_the_design_of_the_product(stack: live.Stack, new_page: Callable[..., Any]) -> None:
    page = new_page("viewer", at="")
    answer = page.goto("/admin/backoffice/user/add/")
    assert answer.status == 403
    card = page.locator(".failed")
    assert card.evaluate("one => getComputedStyle(one).borderRadius") != "0px"
    assert page.evaluate("document.fonts.status") == "loaded"
    page.get_by_role("link", name="Go to the overview").click()
    page.wait_for_url("**/admin/")
    page.goto(f"/admin/backoffice/user/{factories.uuid.uuid4()}/change/")
    page.get_by_role("link", name="Back to the previous page").or_(page.get_by_role("link", name="Go to the overview"))
    assert page.get_by_role("heading", name="Page not found").is_visible()
