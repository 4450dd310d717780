"""No event and no effect is lost or repeated when writers, runners and PostgreSQL are killed under load."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import processes
from devtools.postgres import Postgres
from events import head, store
from events.integrity import verify
from events.subscriptions import progress
from tests.events import killable, servers
from tests.events.interleaving import LONG

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

ROUNDS = ["writer", "runner", "postgres", "runner", "postgres", "writer"]
BETWEEN = 40  # events acknowledged between two kills


@pytest.fixture
def server(transactional_db: None) -> Iterator[Postgres]:
    with servers.server("ordeal", deadlock_timeout="50ms") as postgres, servers.used(postgres):
        servers.migrate()
        store.execute(killable.EFFECTS)
        yield postgres


@pytest.fixture
def forker(server: Postgres) -> Iterator[killable.Forker]:
    made = killable.Forker(server.url())
    yield made
    made.close()


@pytest.mark.timeout(7200 if LONG else 120)
def test_every_acknowledged_event_has_its_effect_once_and_in_order(
    server: Postgres, forker: killable.Forker, tmp_path: Path
) -> None:
    dice = random.Random(os.environ.get("SEED", "7"))
    rounds = [dice.choice(ROUNDS) for _ in range(200)] if LONG else ROUNDS
    written = 0

    def start(kind: str) -> int:
        nonlocal written
        written += kind == "writer"
        return forker.fork(kind, "effects" if kind == "runner" else tmp_path / f"writer-{written}")

    living = {kind: [start(kind), start(kind)] for kind in ("writer", "runner")}
    for victim in rounds:
        before = len(killable.lines(tmp_path))
        assert processes.wait_until(lambda n=before: len(killable.lines(tmp_path)) >= n + BETWEEN, 60)
        if victim == "postgres":
            servers.crash(server)
        else:
            os.kill(living[victim].pop(0), signal.SIGKILL)
            living[victim].append(start(victim))
    for writer in living["writer"]:
        os.kill(writer, signal.SIGKILL)
    # A backend whose client was killed finishes its statement, so the head is final once no append is open.
    assert processes.wait_until(lambda: not head.holders(), 30)
    progress.wait_for("effects", head.safe(), timeout=60)

    acknowledged = set(killable.lines(tmp_path))
    stored = store.query("select event_id::text, position, stream, version from events_event order by position")
    effects = store.query("select position, stream, version from effects order by n")
    assert acknowledged <= {event_id for event_id, *_ in stored}
    assert len(acknowledged) >= BETWEEN * len(rounds)
    assert sorted(effects) == [tuple(row) for _, *row in stored], "each once"
    assert effects == sorted(effects), "in order"
    assert verify.verify().ok
