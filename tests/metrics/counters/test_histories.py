"""Over random histories and arbitrary batches the counters are exact after every batch."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import store
from metrics.counters import applying
from tests import factories
from tests.events.interleaving import LONG
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = (None, 0.0, 0.1, 1 / 3, 12.5, 1e15, 5e-324)


class History:
    """Random commands on a few records, so that they meet often; refused commands change nothing."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.owners = [factories.user() for _ in range(3)]
        self.papers = [factories.form(self.dice.choice(self.owners)) for _ in range(4)]
        self.answers: list[uuid.UUID] = []

    def act(self) -> None:
        actions: list[Callable[[], None]] = [
            *[self.receive] * 8,
            *[self.correct] * 3,
            *[lambda: counting.send(submissions.DeleteSubmission(), self.answer())] * 3,
            lambda: counting.send(submissions.EraseSubmission(), self.answer()),
            *[lambda: counting.send(forms.DeleteForm(), self.paper())] * 3,
            *[lambda: counting.send(forms.RestoreForm(), self.paper())] * 4,
            lambda: counting.send(forms.UpdateForm(archived=self.dice.random() < 0.3), self.paper()),
            lambda: counting.send(forms.EraseForm(), self.paper()),
            lambda: self.papers.append(self.new_form()),
            lambda: self.owners.append(factories.user()),
            lambda: counting.send(users.DeleteUser(), self.dice.choice(self.owners)),
            lambda: counting.send(users.RestoreUser(), self.dice.choice(self.owners)),
            lambda: counting.send(users.UpdateUser(first_name="Ada"), self.dice.choice(self.owners)),
        ]
        if self.dice.random() < 0.03:
            counting.send(users.EraseUser(), self.dice.choice(self.owners))
        self.dice.choice(actions)()

    def new_form(self) -> uuid.UUID:
        key = uuid.uuid4()
        data = forms.CreateForm(user_id=self.dice.choice(self.owners), title="A form", created_at=self.moment())
        counting.send(data, key)
        return key

    def paper(self) -> uuid.UUID:
        return self.dice.choice(self.papers)

    def answer(self) -> uuid.UUID:
        return self.dice.choice(self.answers) if self.answers else uuid.uuid4()

    def moment(self):
        """A time: now, years ago, in the future, or within an instant of a window's edge."""
        recent_from, kept_from = applying.windows()
        edge = self.dice.choice([recent_from, kept_from])
        return self.dice.choice(
            [
                None,
                counting.ago(days=self.dice.choice([0, 1, 29, 31, 89, 91, 3_000, -1, -400])),
                edge + timedelta(microseconds=self.dice.choice([-1, 0, 1])),
            ]
        )

    def receive(self) -> None:
        self.answers.append(counting.receive(self.paper(), self.moment(), self.dice.choice(SECONDS)))

    def correct(self) -> None:
        fields = {
            "completion_time": self.dice.choice(SECONDS),
            "created_at": self.moment() or counting.now(),
            "answers": {"a": self.dice.random()},
        }
        chosen = {name: fields[name] for name in fields if self.dice.random() < 0.5}
        counting.send(submissions.CorrectSubmission(**chosen), self.answer())


@pytest.mark.parametrize("seed", range(200 if LONG else 6))
def test_counters_are_exact_after_every_batch_of_a_random_history(seed: int) -> None:
    history = History(seed)
    for _ in range(60):
        history.act()
        roll = history.dice.random()
        if roll < 0.4:
            counting.follow(history.dice.choice([1, 2, 3, 7, 50]))
        if roll < 0.1:
            counting.demand_identity()
    counting.demand_identity()
    counting.follow()
    counting.demand_fresh()
    counting.demand_identity()
    behind = store.query("select count(*) from metrics_user_stats where form_count < 0 or submission_count < 0")
    assert behind == [(0,)]


@pytest.mark.parametrize("seed", range(50 if LONG else 2))
def test_windows_that_move_during_a_history_keep_recent_exact(seed: int) -> None:
    history = History(1_000 + seed)
    for number in range(40):
        history.act()
        if number % 5 == 0:
            counting.follow(history.dice.choice([1, 4, 20]))
            applying.sweep(counting.now() + timedelta(days=number, hours=history.dice.randint(0, 30)))
            counting.demand_identity()
    counting.follow()
    counting.demand_fresh()
    counting.demand_identity()
