"""Any URL returns a page or a refusal, never a server error."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.converters import IntConverter

from backoffice import commands as entry_point
from backoffice.sections.conflicts import domain
from backoffice.sections.users import domain as users
from events import commands, errors
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db

TEXTS = ("[[[", "%00", "a%00b", "%ED%A0%80", "%F0%9F%92%A9", "9" * 400)
INSTANTS = (
    "0001-01-01T00:00:00%2B14:00",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01",
    "9999-12-31",
)
PARAMETERS = (
    *("q", "sort", "cursor", "before", "after", "since", "until", "a", "ids", "stream", "type", "correlation"),
    *("record", "key", "limit", "version", "at", "created_after", "created_before", "form", "consistent"),
)
# A sign-out would end the session of the test; the probes and the translation catalogue ignore the query.
LEFT_OUT = ("logout", "jsi18n", "autocomplete", "livez", "readyz")


def addresses(value: str, number: str, *, fixed: bool = True) -> Iterator[str]:
    """Returns every URL of the site, with this text in each text parameter; `fixed`: also those without one."""

    def walk(prefix: str, patterns: Any) -> Iterator[str]:
        for pattern in patterns:
            route = str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(prefix + route, pattern.url_patterns)
            elif isinstance(pattern, URLPattern) and route.startswith("^") is False:
                for name, converter in pattern.pattern.converters.items():
                    kind = type(converter).__name__.removesuffix("Converter").lower().replace("string", "str")
                    filled = number if isinstance(converter, IntConverter) else value
                    filled = str(KEYS[0]) if kind == "uuid" else filled
                    for written in (f"<{kind}:{name}>", f"<{name}>"):
                        route = route.replace(written, filled)
                if "<" not in route and (fixed or str(pattern.pattern) != route):
                    yield "/" + prefix + route

    return walk("", get_resolver().url_patterns)


KEYS = [uuid.UUID(int=7)]


@pytest.fixture
def client() -> Client:
    return api_client.signed_in("admin").client


def fault(response: Any) -> bool:
    return response.status_code >= 500 and response.status_code != 503


@pytest.mark.parametrize("value", TEXTS)
def test_no_path_causes_a_server_error(client: Client, value: str) -> None:
    client.raise_request_exception = False
    wrong = []
    for address in addresses(value, "9" * 30, fixed=value == TEXTS[0]):  # the others are the same for every text
        if any(word in address for word in LEFT_OUT):
            continue
        for method in ("GET", "POST"):
            answer = client.generic(method, address, b"{}", content_type="application/json")
            if fault(answer) or ("%00" in address and answer.status_code not in (400, 404, 405)):
                wrong.append((method, address[:200], answer.status_code))
    assert wrong == []


@pytest.mark.parametrize("value", [*TEXTS, *INSTANTS])
def test_no_query_causes_a_server_error(client: Client, value: str) -> None:
    client.raise_request_exception = False
    key = factories.user()
    factories.update(key, first_name="Ada")
    KEYS[0] = key
    query = "&".join(f"{name}={value}" for name in PARAMETERS)
    wrong = []
    for address in addresses(str(key), "1"):
        if any(word in address for word in LEFT_OUT):
            continue
        alone = [f"{name}={value}" for name in PARAMETERS] if address in ALONE else [query]
        for asked in alone:
            answer = client.get(f"{address}?{asked}")
            if fault(answer) or ("%00" in asked and answer.status_code not in (400, 404)):
                wrong.append((address, asked[:80], answer.status_code))
    assert wrong == []


ALONE = {
    "/admin/events/storedevent/",
    "/admin/backoffice/user/",
    "/admin/backoffice/conflict/",
    "/api/v1/events/",
    "/api/v1/submissions/",
}


@pytest.mark.parametrize("charset", ["unicode_escape", "hex", "utf-7", "utf-16", "no-such-thing", "idna"])
def test_text_in_another_encoding_is_refused_or_read_as_utf8(client: Client, charset: str) -> None:
    client.raise_request_exception = False
    body = b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\n\\ud800\r\n--x--\r\n'
    sent = client.generic(
        "POST", "/admin/backoffice/form/add/", body, content_type=f"multipart/form-data; boundary=x; charset={charset}"
    )
    assert sent.status_code in (400, 422)
    found = client.generic("GET", "/admin/search/?q=%5Cud800", b"", content_type=f"text/plain; charset={charset}")
    assert found.status_code == 200


@pytest.mark.parametrize("path", ["[[[", "", "]", "a[[[", "fields[a", "\\", "fields[a]].label"])
def test_malformed_path_of_a_conflict_is_refused(path: str) -> None:
    staff = api_client.staff("admin")
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Grace")
    command = factories.command(users.UpdateUser(first_name="Linus"), key, base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, staff)
    found = domain.id_for(command.id)
    caller = api_client.Caller(staff, raises=False)
    answer = caller.post(f"conflicts/{found}/resolve/", {"choices": {path: "mine"}})
    assert answer.status_code in (400, 422)
    for sent in itertools.product(("choice-0", "path-0"), (path,)):
        page = caller.client.post(f"/admin/backoffice/conflict/{found}/change/", {sent[0]: sent[1], "version": "2"})
        assert page.status_code in (400, 404, 422)
    assert commands.recalled(command) is None


def test_assignee_that_is_no_number_is_refused() -> None:
    staff = api_client.staff("admin")
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Grace")
    command = factories.command(users.UpdateUser(first_name="Linus"), key, base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, staff)
    client = api_client.Caller(staff, raises=False).client
    address = f"/admin/backoffice/conflict/{domain.id_for(command.id)}/act/"
    assert client.post(address, {"do": "assign", "assignee": "9" * 5000}).status_code == 302
