"""The journey of an event to every reader: events applied, counters and a fresh read are the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from devtools import processes
from events.types import new_id
from realtime import frames
from tests import live
from tests.flows.people import Person

pytestmark = pytest.mark.services

TOPICS = ("users", "forms", "submissions", "settings")
STEPS = 48


class Copy:
    """The records as a client knows them, from the events it received and nothing else."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, int] = {}
        self.positions: set[int] = set()

    def apply(self, frame: frames.EventFrame) -> None:
        """Apply the next event of a record. After a reconnect an event of two topics may come again for the second."""
        if frame.position in self.positions:
            return
        self.positions.add(frame.position)
        assert frame.version == self.versions.get(frame.stream, 0) + 1, "an event is missing or out of order"
        self.versions[frame.stream] = frame.version
        record, action = self.records.setdefault(frame.stream, {}), frame.event.partition(".")[2]
        if action == "restored":
            record["deleted_at"] = None
        elif action in {"erased", "removed"}:
            record["deleted_at"] = record.get("deleted_at") or frame.data.get("erased_at") or frame.timestamp
        else:
            record.update(frame.data)

    def living(self, category: str, **fields: str) -> list[str]:
        """The keys of records that are not deleted and have these values."""
        return [
            stream.partition("-")[2]
            for stream, record in self.records.items()
            if stream.startswith(f"{category}-") and not record.get("deleted_at") and fields.items() <= record.items()
        ]


class Writer:
    """Random commands of one member of staff, on a few records, so that they meet often."""

    def __init__(self, person: Person) -> None:
        self.person, self.dice = person, random.Random(14)
        self.users = [person.create("user") for _ in range(3)]
        self.forms = [person.create("form", user_id=owner, title="A form") for owner in self.users]
        self.answers: list[str] = []
        self.settings = [f"flow.{self.users[0]}"]
        self.positions: list[int] = []

    def step(self) -> None:
        dice = self.dice
        user, form = dice.choice(self.users), dice.choice(self.forms)
        answer = dice.choice(self.answers) if self.answers else form
        name, key, data = dice.choice(
            [
                *[("submission.receive", "", {"form_id": form, "answers": {}, "completion_time": 1.5})] * 6,
                ("submission.delete", answer, {}),
                ("form.create", "", {"user_id": user, "title": "Another form"}),
                ("form.delete", form, {}),
                *[("form.restore", form, {})] * 2,
                ("form.update", form, {"title": f"Title {dice.random()}"}),
                ("user.update", user, {"first_name": f"Name {dice.random()}"}),
                ("user.delete", user, {}),
                *[("user.restore", user, {})] * 2,
                ("setting.set", self.settings[0], {"value": dice.random()}),
            ]
        )
        self.send(name, key, data)

    def send(self, name: str, key: str, data: dict[str, Any]) -> None:
        """Send a command; one that its record refuses changes nothing."""
        if not key:
            key = str(new_id())
            (self.answers if name.startswith("submission") else self.forms).append(key)
        answer = self.person.command(name, key, data, reason="asked by letter")
        assert answer.status in {200, 404, 410, 422}, answer
        if answer.status == 200:
            self.positions += [answer.json()["position"]] if answer.json()["position"] else []


def test_applied_events_counters_and_a_fresh_read_are_the_same_whatever_fails(
    stack: live.Stack, person: Callable[[str], Person]
) -> None:
    admin = person("admin")

    def read(path: str) -> Any:
        """A read that includes everything written before; waits for the successor of a killed runner."""
        address = f"{path}{'&' if '?' in path else '?'}consistent=1"
        assert processes.wait_until(lambda: admin.send("GET", address).status == 200, 60)
        return admin.get(address)

    def today() -> dict[str, Any]:
        (row,) = read("metrics/forms/?range=1d")["items"]
        return dict(row)

    before = today()
    faults = {
        10: lambda: stack.kill_process("subscriptions"),
        16: stack.start_subscriptions,
        24: stack.kill_web,
        25: stack.start_web,
        36: lambda: stack.kill_process("subscriptions"),
        38: stack.start_subscriptions,
    }
    with person("admin").listen(*TOPICS) as listener:
        writer = Writer(admin)
        for number in range(STEPS):
            faults.get(number, lambda: None)()
            if number != 24:  # nobody answers
                writer.step()
        writer.send("user.erase", writer.users[1], {})
        writer.send("user.restore", writer.users[0], {})
        writer.send("user.update", writer.users[0], {"last_name": "Last"})
        for position in writer.positions:
            listener.wait_for(position)
        received = [frame for frame in listener.received if frame.position <= max(writer.positions)]

    # 1. Each event came once for each of its topics, in order, across a killed web process and two killed runners.
    for topic in TOPICS:
        positions = [frame.position for frame in received if topic in frame.topics]
        assert positions == sorted(set(positions)), topic
    mine = Copy()
    for frame in sorted(received, key=lambda one: one.position):
        mine.apply(frame)

    # 2. The records that the client has are those that a fresh read gives, with their counts.
    for key in writer.users:
        fresh, living = read(f"users/{key}/"), mine.living("form", user_id=key)
        assert fresh["version"] == mine.versions[f"user-{key}"]
        assert (fresh["deleted_at"] is not None) is (key not in mine.living("user"))
        assert fresh["form_count"] == len(living)
        assert fresh["submission_count"] == sum(len(mine.living("submission", form_id=form)) for form in living)
        assert fresh["recent_submissions"] == fresh["submission_count"]
    for key in writer.forms:
        if f"form-{key}" in mine.records:
            fresh = read(f"forms/{key}/")
            assert fresh["submission_count"] == len(mine.living("submission", form_id=key))
            assert (fresh["deleted_at"] is not None) is (key not in mine.living("form"))
    assert read(f"settings/{writer.settings[0]}/")["value"] == mine.records[f"setting-{writer.settings[0]}"]["value"]

    # 3. The figures of the day moved by what the client saw.
    after = today()
    created = [frame for frame in received if frame.event == "form.created"]
    assert after["forms_created"] - before["forms_created"] == len(created)
    assert after["submissions"] - before["submissions"] == len(mine.living("submission"))
    assert after["unique_users"] - before["unique_users"] == len({frame.data["user_id"] for frame in created})

    # 4. The counters equal the read tables to the unit, and so does the view.
    assert "clean" in stack.manage("reconcile_counters", "--all", "--json")
