"""Random commands in processes that lag at random: no read is older than its process knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, errors, head
from events.types import new_id
from metrics import catalogue
from tests.events.interleaving import LONG
from tests.factories import command
from tests.metrics.caching import simulated
from tests.metrics.caching.conftest import forget
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


class Keys:
    """Three users and three forms that an example's commands are about."""

    def __init__(self) -> None:
        self.users, self.forms = [new_id() for _ in range(3)], [new_id() for _ in range(3)]


# Name -> (keys, number) -> the command's data, its key and its other fields.
ACTIONS: dict[str, Callable[[Keys, int], Any]] = {
    "create user": lambda k, n: (users.CreateUser(email=f"{new_id()}@example.org"), k.users[n], {}),
    "set plan": lambda k, n: (users.UpdateUser(plan="enterprise"), k.users[n], {"reason": "asked"}),
    "create form": lambda k, n: (forms.CreateForm(user_id=k.users[n], title="A form"), k.forms[n], {}),
    "submit": lambda k, n: (
        submissions.ReceiveSubmission(form_id=k.forms[n], answers={}, completion_time=1.5),
        new_id(),
        {},
    ),
    "archive form": lambda k, n: (forms.UpdateForm(archived=True), k.forms[n], {}),
    "delete form": lambda k, n: (forms.DeleteForm(), k.forms[n], {}),
    "restore form": lambda k, n: (forms.RestoreForm(), k.forms[n], {}),
    "delete user": lambda k, n: (users.DeleteUser(), k.users[n], {"reason": "asked"}),
    "restore user": lambda k, n: (users.RestoreUser(), k.users[n], {}),
    "erase user": lambda k, n: (users.EraseUser(), k.users[n], {"reason": "asked"}),
}

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 2)),
        st.tuples(st.just("follow"), st.integers(0, 2)),
        st.tuples(st.just("read"), st.integers(0, 2)),
        st.tuples(st.just("write and read"), st.integers(0, 2)),
    ),
    min_size=5,
    max_size=25,
)


def act(keys: Keys, name: str, number: int) -> int:
    """Dispatch a command; returns the position of its last event, 0 if it was refused."""
    data, key, more = ACTIONS[name](keys, number)
    try:
        return commands.dispatch(command(data, key, **more)).position or 0
    except errors.EventsError:
        return 0


@settings(max_examples=1_000 if LONG else 15)
@given(history=steps)
def test_cached_answers_are_what_a_fresh_read_answers(history: list[tuple[str, int]]) -> None:
    """Each answer is one that the database gave at or after the newest event that the process knows.

    Once a process has handled everything, its answer is the current one.
    """
    forget()
    keys, processes = Keys(), [simulated.Process() for _ in range(3)]
    queries = simulated.every_query(keys.users[0])
    exact = catalogue.UsersByPlan()
    past: list[tuple[int, Any]] = [(head.safe(), simulated.fresh(exact))]

    def check(process: simulated.Process, reached: int = 0) -> None:
        known = max(process.known.position, reached)
        possible = [
            value for number, (_, value) in enumerate(past) if number + 1 == len(past) or past[number + 1][0] > known
        ]
        assert process.ask(exact, reached=reached) in possible

    for name, number in history:
        process = processes[number]
        if name == "follow":
            process.follow()
            counting.follow()
            for query in queries:
                assert process.ask(query) is not None
        elif name == "read":
            check(process)
        else:
            position = act(keys, "create user" if name == "write and read" else name, number)
            if position:
                past.append((position, simulated.fresh(exact)))
            if name == "write and read":
                check(processes[(number + 1) % 3], position)
    counting.follow()
    for process in processes:
        process.follow()
        for query in queries:
            reached = head.safe()
            assert process.ask(query, reached=reached) == simulated.fresh(query), query.name


def test_commands_of_the_property_are_accepted_in_order() -> None:
    """If every command were refused, the property would hold for any cache."""
    keys = Keys()
    refused = [name for name in ACTIONS if not act(keys, name, 0)]
    assert not refused
