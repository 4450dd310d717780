"""An event whose key cannot be decrypted is parked, shown as unreadable, and handled once the key is back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from events import store
from events.privacy import subject_keys
from events.subscriptions import parked as parking
from tests import factories
from tests.backoffice import api_client
from tests.events import effects
from tests.own_database import own_database

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND = {"first": b"1" * 32}, {"second": b"2" * 32}


@pytest.fixture(autouse=True)
def database(transactional_db: None, template: str, settings: Any) -> Iterator[None]:
    settings.PRIVACY_KEYS = FIRST
    with own_database(template):
        yield


def use(settings: Any, keys: dict[str, bytes]) -> None:
    settings.PRIVACY_KEYS = keys
    subject_keys.CACHE.clear()


@pytest.mark.parametrize("left", [SECOND, SECOND | {"first": b"x" * 32}], ids=["missing", "wrong"])
def test_event_whose_key_cannot_be_decrypted_is_parked_and_the_others_continue(
    settings: Any, left: dict[str, bytes]
) -> None:
    with effects.effects():
        wanted = effects.subscription()
        lost = factories.user(first_name="Ada")
        use(settings, SECOND | FIRST)
        read = factories.user(first_name="Grace")
        use(settings, left)
        effects.catch_up(wanted)
        positions = {row[0]: row[1] for row in store.query("select stream, position from events_event")}
        assert effects.effect() == [positions[f"user-{read}"]]
        (parked,) = parking.parked(wanted.name)
        assert (parked.stream, parked.position) == (f"user-{lost}", positions[f"user-{lost}"])
        assert "no_key" in (parked.error or "")

        shown = api_client.signed_in("admin").get("events/?limit=10").json()["items"]
        unreadable = {event["stream"]: event.get("unreadable") for event in shown}
        assert (unreadable[f"user-{lost}"], unreadable[f"user-{read}"]) == ("no_key", None)

        use(settings, SECOND | FIRST)
        assert parking.replay(wanted, f"user-{lost}").handled == 1
        assert len(effects.effect()) == 2
        assert store.read_stream(f"user-{lost}")[0].data["first_name"] == "Ada"
