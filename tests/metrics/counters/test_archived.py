"""Counters are right when the events that they need are in an archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from events import store
from events.archive import reader as archives
from events.archive import writer as archiving
from events.integrity import seals
from events.rebuild import builder
from metrics.counters import reconcile
from tests import factories
from tests.events.isolated_log import own_log
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def small_partitions(_own_database: None, tmp_path: Path, settings: Any) -> Iterator[None]:
    settings.ARCHIVE_DIR = tmp_path / "archive"
    archives.reader.cache_clear()
    with own_log(size=10, upto=200):
        yield
    archives.reader.cache_clear()


def archive_all() -> int:
    """Move all closed partitions to files; returns how many."""
    seals.seal()
    found = 0
    while archiving.archive_next(keep_days=0):
        found += 1
    return found


def history() -> tuple[Any, Any, list[Any]]:
    owner = factories.user()
    form = factories.form(owner)
    return owner, form, [counting.receive(form, counting.ago(days=n), seconds=n) for n in range(30)]


def test_changes_of_archived_submissions_are_counted(small_partitions: None) -> None:
    owner, form, answers = history()
    counting.follow()
    assert archive_all() >= 2
    counting.send(submissions.CorrectSubmission(created_at=counting.ago(days=80)), answers[0])
    counting.send(submissions.CorrectSubmission(completion_time=99), answers[1])
    counting.send(submissions.DeleteSubmission(), answers[1])
    counting.send(submissions.DeleteSubmission(), answers[2])
    counting.demand_identity()
    counting.follow()
    counting.demand_fresh()
    counting.demand_identity()
    counting.send(forms.DeleteForm(), form)
    counting.follow()
    assert counting.user_numbers(owner) == (0, 0, 0)
    counting.demand_identity()


def test_seed_of_an_archived_log_is_what_a_fold_gives(small_partitions: None) -> None:
    _, form, _ = history()
    counting.follow()
    assert archive_all() >= 2
    counting.demand_fresh()
    builder.rebuild("counters")
    counting.demand_fresh()
    counting.receive(form)
    counting.follow()
    counting.demand_fresh()
    counting.demand_identity()


def test_comparison_is_incomplete_while_the_events_to_count_are_archived(small_partitions: None) -> None:
    history()
    counting.follow()
    assert archive_all() >= 2
    store.execute("update events_checkpoint set position = 0 where name = 'counters'")
    outcome = reconcile.reconcile()
    assert outcome is not None
    assert (outcome.state, "archive" in outcome.note) == ("incomplete", True)
