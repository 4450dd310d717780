"""Lists and figures are read while an import runs and the runner of the counters is killed again and again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from backoffice.sections.forms import domain as forms
from devtools import processes
from events import head, store
from events.subscriptions import progress
from tests import factories
from tests.backoffice import api_client
from tests.events import effects, killable
from tests.events.interleaving import LONG
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)

SORTED = ("users/?sort=-submission_count", "forms/?sort=-last_submission_at", "forms/?sort=submission_count")
KILLS = 60 if LONG else 6

FORMS = """
select f.id::text, count(s.id), max(s.created_at)
  from forms f left join submissions s on s.form_id = f.id and s.deleted_at is null group by f.id
"""

USERS = """
select u.id::text, count(distinct f.id), count(s.id)
  from users u left join forms f on f.user_id = u.id and f.deleted_at is null
  left join submissions s on s.form_id = f.id and s.deleted_at is null group by u.id
"""

DAYS = """
select (created_at at time zone 'UTC')::date::text, count(*), avg(completion_time) from submissions
 where deleted_at is null group by 1
"""


@pytest.fixture
def forker(own_database: None) -> Iterator[killable.Forker]:
    made = killable.Forker(effects.database_url())
    yield made
    made.close()


class Readers:
    """Reads lists and figures until it is stopped, and checks each answer."""

    def __init__(self) -> None:
        self.caller = api_client.signed_in("manager")
        self.position = self.submissions = self.rounds = 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            self.read()
            self.rounds += 1

    def read(self) -> None:
        answer = self.get("metrics/forms/?range=7d")
        submissions = sum(row["submissions"] for row in answer["items"])
        assert self.submissions <= submissions <= committed()
        assert self.position <= answer["as_of"]["position"] <= head.newest()
        self.position, self.submissions = answer["as_of"]["position"], submissions
        for path in (
            "users/?sort=-submission_count",
            "forms/?sort=-last_submission_at",
            "forms/?sort=submission_count",
        ):
            keys = [item["id"] for item in self.get(path)["items"]]
            assert len(keys) == len(set(keys))
        for item in self.get("users/?sort=form_count")["items"]:
            assert 0 <= item["recent_submissions"] <= item["submission_count"] <= committed()

    def get(self, path: str) -> Any:
        answer = self.caller.get(path)
        assert answer.status_code == 200, answer.content
        return answer.json()


def committed() -> int:
    return int(store.query("select count(*) from submissions")[0][0])


@pytest.mark.timeout(900 if LONG else 180)
def test_numbers_read_during_an_import_are_never_wrong_and_in_the_end_those_of_a_group_by(
    forker: killable.Forker, settings: Any
) -> None:
    settings.API_RATE_PER_MINUTE = 0
    owners = [factories.user() for _ in range(3)]
    papers = [factories.form(owner) for owner in owners for _ in range(2)]
    counting.follow()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for paper in papers:
                counting.import_many(paper, 30)
            counting.send(forms.DeleteForm(), papers[0])
            counting.send(forms.RestoreForm(), papers[0])

    readers = Readers()
    threads = [factories.Thread(write), factories.Thread(readers.run)]
    try:
        for _ in range(KILLS):
            before, victim = counting.checkpoint(), forker.fork("registered", "counters")
            assert processes.wait_until(lambda before=before: counting.checkpoint() > before, 60)
            os.kill(victim, signal.SIGKILL)
            counting.demand_identity()
        assert processes.wait_until(lambda: readers.rounds > KILLS or not threads[1].is_alive(), 60)
    finally:
        stop.set()
        readers.stop.set()
        for thread in threads:
            thread.result(60)
    last = forker.fork("registered", "counters")
    progress.wait_for("counters", head.safe(), timeout=60)
    os.kill(last, signal.SIGKILL)
    counting.demand_fresh()
    counting.demand_identity()
    demand_every_number(readers)


def demand_every_number(readers: Readers) -> None:
    """Check that every number of the API equals a GROUP BY over the read tables."""
    listed = {item["id"]: item for item in readers.get("users/?deleted=any&limit=100")["items"]}
    grouped = store.query(USERS)
    assert {key: (one["form_count"], one["submission_count"]) for key, one in listed.items()} == {
        key: counts for key, *rest in grouped for counts in [tuple(rest)]
    }
    listed = {item["id"]: item for item in readers.get("forms/?deleted=any&limit=100")["items"]}
    assert {key: (one["submission_count"], one["last_submission_at"]) for key, one in listed.items()} == {
        key: (count, last and last.isoformat().replace("+00:00", "Z")) for key, count, last in store.query(FORMS)
    }
    days = {row["date"]: row for row in readers.get("metrics/forms/?range=7d")["items"] if row["submissions"]}
    assert {key: row["submissions"] for key, row in days.items()} == {key: n for key, n, _ in store.query(DAYS)}
    for key, _, average in store.query(DAYS):
        assert days[key]["avg_completion_time"] == pytest.approx(average)
