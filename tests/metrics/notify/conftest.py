from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from metrics.monitoring.notify import sources
from tests.metrics.notify import alerts, receivers
from tests.metrics.notify.receivers import Mailbox, Receiver


@pytest.fixture(autouse=True)
def world() -> Iterator[alerts.World]:
    """The alerts that notifications ask; unless a test changes them, nothing fires and nothing is silenced."""
    names = sources.Sources.__struct_fields__
    before = {name: getattr(sources.SOURCES, name) for name in names}
    made = alerts.World()
    made.answer()
    yield made
    for name, function in before.items():
        setattr(sources.SOURCES, name, function)


@pytest.fixture(autouse=True)
def _as_in_production(settings: Any) -> None:
    """Channels reach public addresses only, unless a test allows more."""
    settings.ALERT_ALLOWED_NETWORKS = []


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """A receiver that channels may reach."""
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    with receivers.http() as made:
        yield made


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    """A mail server that the settings name."""
    with receivers.smtp() as made:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_URL = f"smtp://127.0.0.1:{made.port}"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", made.port
        yield made
