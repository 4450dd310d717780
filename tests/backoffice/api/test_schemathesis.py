"""The description and the API agree: schemathesis generates requests to every operation.

The suite tries a few for each operation; `make chaos` tries many (LONG=1). Half of the requests name existing records,
so that they do not end with 404.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import schemathesis
import yaml
from django.core import signals
from django.core.handlers.wsgi import WSGIHandler
from django.db import close_old_connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from backoffice.api import views
from backoffice.sections.staff import keys
from events import store
from metrics import queries
from tests import factories, live
from tests.backoffice import api_client
from tests.events.interleaving import LONG
from tests.metrics.alerting import samples

pytestmark = pytest.mark.django_db

SCHEMA: Final = openapi.from_dict(
    yaml.load(
        (live.PROJECT / "docs" / "openapi.yaml").read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
)
SCHEMA.app = WSGIHandler()
# The domain has rules that a schema cannot express: an address without an @, a missing record.
LEFT_OUT: Final = [positive_data_acceptance]
# Answers 200 with a status for each item of a batch, so an invalid item does not make the response an error.
BATCH: Final = "POST /api/v1/ingest/"
# No subscription runs here, so lists with counts answer `consistent=1` with 504, which must be documented.
TIMEOUT: Final = 504
OPERATIONS: Final = {result.ok().label: result.ok() for result in SCHEMA.get_all_operations()}


# Codes that refuse a request without a body, where the refusal does not name a missing field.
MISSING: Final = {"malformed", "unsupported_media_type", "invalid_event"}


@pytest.fixture
def token(settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    settings.API_RATE_PER_MINUTE = 0
    for module in (views, queries):
        monkeypatch.setattr(module, "CONSISTENT_SECONDS", 0.05)
    _, token = keys.create(name="schemathesis", owner=api_client.staff("admin"), scopes=keys.all_scopes())
    return token


@contextlib.contextmanager
def connections_stay() -> Iterator[None]:
    """Keeps the connection open: the end of a request would close it together with the transaction of this test."""
    both = (signals.request_started, signals.request_finished)
    for signal in both:
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in both:
            signal.connect(close_old_connections)


COMPUTED: Final = """
insert into metrics_view (name, refreshed_at, checked_at, position, number)
values ('mv_user_analytics', now(), now(), 0, 1) on conflict do nothing
"""


@pytest.fixture
def computed() -> None:
    store.execute("refresh materialized view mv_user_analytics")  # rolled back, unlike a real refresh
    store.execute(COMPUTED)


def known(path: str) -> dict[str, str]:
    """Creates the record that the parameters of this path name; returns their values."""
    for beginning, (parameter, make) in KNOWN.items():
        if path.startswith(beginning):
            return {parameter: str(make())}
    return {}


def channel() -> str:
    """Returns the id of a notification channel."""
    made = api_client.signed_in("admin").post(
        "channels/", {"name": uuid.uuid4().hex, "kind": "email", "recipients": ["a@example.org"]}
    )
    return str(made.json()["id"])


def alert() -> str:
    """Returns the key of a firing alert, which is that of its rule."""
    key = f"cpu_{uuid.uuid4().hex[:8]}"
    with samples.sampled() as found:
        samples.do("rule.create", key, {"title": "CPU", "metric": "cpu.percent", "warn": 80, "for_seconds": 30})
        found.tick("cpu.percent", [85] * 6)
    return key


def silence() -> str:
    """Returns the key of a silence."""
    key = str(uuid.uuid4())
    ends_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    samples.do("silence.create", key, {"title": "Upgrade", "ends_at": ends_at})
    return key


def conflict() -> str:
    """Returns the id of an open conflict."""
    key, caller = factories.user(plan="free"), api_client.signed_in("admin")
    caller.command("user.update", key, {"plan": "premium"}, base_version=1, reason="Asked by phone")
    answer = caller.command("user.update", key, {"plan": "enterprise"}, base_version=1, reason="Asked by e-mail")
    assert answer.status_code == 409
    return str(answer.json()["conflict_id"])


KNOWN: Final[dict[str, tuple[str, Callable[[], object]]]] = {
    "/api/v1/users/": ("key", factories.user),
    "/api/v1/forms/": ("key", factories.form),
    "/api/v1/submissions/": ("key", factories.submission),
    "/api/v1/settings/": ("key", lambda: "a.setting"),
    "/api/v1/conflicts/": ("key", conflict),
    "/api/v1/streams/": ("stream", lambda: f"user-{factories.user()}"),
    "/api/v1/system/rebuilds/": ("table", lambda: "users"),
    "/api/v1/alerts/": ("key", alert),
    "/api/v1/rules/": ("key", alert),
    "/api/v1/silences/": ("key", silence),
    "/api/v1/channels/": ("channel", channel),
}


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_response_is_documented(label: str, token: str, computed: None) -> None:
    operation = OPERATIONS[label]
    there = known(operation.path)

    @settings(
        max_examples=300 if LONG else 6,
        deadline=None,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=st.sampled_from(GenerationMode).flatmap(lambda mode: operation.as_strategy(generation_mode=mode)),
        exists=st.booleans(),
    )
    def conforms(case: schemathesis.Case, exists: bool) -> None:
        if exists:
            case.path_parameters.update(there)
        response = case.call(headers={"Authorization": f"Bearer {token}"})
        excluded = [*LEFT_OUT]
        if label == BATCH and response.status_code == 200:
            excluded.append(negative_data_rejection)
        if response.status_code == TIMEOUT:
            excluded.append(not_a_server_error)
        case.validate_response(response, excluded_checks=excluded, headers={"Authorization": f"Bearer {token}"})

    with connections_stay():
        conforms()


WITH_BODY: Final = [label for label, one in OPERATIONS.items() if "requestBody" in one.definition.raw]


@pytest.mark.parametrize("label", WITH_BODY)
def test_required_body_is_documented_as_required(label: str, token: str) -> None:
    operation = OPERATIONS[label]
    there = known(operation.path) or {"name": "x"}
    caller = api_client.Caller(token=token)
    answer = caller.send(operation.method.upper(), operation.path.format(**there), If_Match="*")
    said = answer.json()
    missing = "This field is required." in said.get("errors", {}).values() or said.get("code") in MISSING
    assert operation.definition.raw["requestBody"]["required"] is missing, answer.content


@pytest.mark.parametrize("action", ["start", "cancel"])
def test_refused_rebuild_returns_the_documented_response(action: str, token: str) -> None:
    operation = OPERATIONS[f"POST /api/v1/system/rebuilds/{{table}}/{action}/"]
    shape = operation.definition.raw["responses"]["409"]["content"]["application/problem+json"]["schema"]
    assert shape == {"$ref": "#/components/schemas/Problem"}
