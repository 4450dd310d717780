"""Files of PostgreSQL that are put back are noticed, although nothing in them tells it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connection

from devtools.postgres import Postgres
from events import head, store, valkey, witness
from metrics.management.commands import doctor
from realtime import relay
from tests.events import effects, servers

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(transactional_db: None, settings: LazySettings, tmp_path: Path) -> Iterator[Postgres]:
    """A copy of the suite's server, and no witness yet."""
    settings.DATA_DIR = tmp_path
    valkey.client("bus").delete(witness.key())
    with servers.copy("snapshot") as copy, servers.used(copy, database=connection.settings_dict["NAME"]):
        yield copy


def put_back(server: Postgres, snapshot: Path) -> None:
    server.stop()
    servers.disconnect()
    shutil.rmtree(server.cluster)
    servers.run("cp", "-a", snapshot, server.cluster)
    server.start()


def take_snapshot(server: Postgres, to: Path) -> Path:
    servers.disconnect()
    server.stop()
    servers.run("cp", "-a", server.cluster, to)
    server.start()
    return to


@pytest.mark.parametrize("left", ["both", "valkey", "file"])
def test_files_that_are_put_back_get_a_new_epoch(server: Postgres, tmp_path: Path, left: str) -> None:
    relay.beacon(effects.grow())
    snapshot = take_snapshot(server, tmp_path / "snapshot")
    epoch, published = head.epoch(), effects.grow(3)
    relay.beacon(published)
    assert doctor.history().state == "ok"
    put_back(server, snapshot)
    assert head.epoch() == epoch, "the place is the same"
    effects.grow(5)  # also where the log has grown past the lost events since
    if left == "valkey":
        witness.file().unlink()
    elif left == "file":
        valkey.client("bus").delete(witness.key())
    assert doctor.history().state == "wrong"
    relay.beacon(head.safe())
    assert head.epoch() != epoch
    assert head.lineage()[epoch] == 0
    assert not any(head.lineage().values()), "nothing is known to be shared"
    found = doctor.history()
    assert (found.state, "put back" in found.text) == ("wrong", True)
    after = head.epoch()
    relay.beacon(effects.grow())
    assert head.epoch() == after, "it is noticed once"


def test_witness_of_another_log_or_of_an_archived_event_changes_nothing(settings: LazySettings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    effects.grow()
    store.query("select nextval('events_position_seq')")  # a position without an event, as in an archived part
    epoch, position = head.epoch(), effects.grow()
    for seen in (
        witness.Seen(epoch="11111111-1111-4111-8111-111111111111", position=position + 1000, event_id="x"),
        witness.Seen(epoch=epoch, position=position - 1, event_id="x"),
    ):
        witness._record(seen)
        relay.beacon(position)
        assert head.epoch() == epoch
        assert [one.position for one in witness.recorded()] == [position]


def test_unreadable_witness_is_replaced(settings: LazySettings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    position = effects.grow()
    witness.file().write_text("{")
    valkey.client("bus").set(witness.key(), b"\xff")
    relay.beacon(position)
    assert [seen.position for seen in witness.recorded()] == [position]
