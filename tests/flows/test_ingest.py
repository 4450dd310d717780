"""The journey of an event from another system: CloudEvents, commands, verdicts, records."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.flows.people import Caller, Person

pytestmark = pytest.mark.services

BATCH = "application/cloudevents-batch+json"


def event(kind: str, subject: str, **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/formease/signup",
        "type": f"formease.{kind}",
        "subject": subject,
        "data": data,
    }


def test_batch_becomes_records_once(person: Callable[[str], Person], program: Callable[..., Caller]) -> None:
    # 1. A program has a key with this right only.
    formease, manager = program("ingest:write"), person("manager")
    assert formease.send("GET", "users/").status == 403

    # 2. It sends a batch. The third event is invalid; the others are applied.
    user, form, submission = (str(uuid.uuid4()) for _ in range(3))
    batch = [
        event("user.created", user, email=f"{user}@example.org", first_name="Ada"),
        event("form.created", form, user_id=user, title="Feedback", fields=[{"id": "q", "type": "text", "label": "?"}]),
        event("form.created", str(uuid.uuid4()), user_id=user),
        event("submission.received", submission, form_id=form, answers={"q": "Yes"}),
    ]
    answer = formease.post("ingest/", batch, content_type=BATCH)

    # 3. Each event gets a verdict, in order.
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["applied", "applied", "rejected", "applied"]
    assert results[2]["problem"]["errors"].keys() == {"title"}

    # 4. People see the records, with the program as their author.
    assert manager.get(f"submissions/{submission}/")["answers"] == {"q": "Yes"}
    created = manager.events(f"user-{user}")[0]
    assert created["actor"].startswith("key:")
    assert "/formease/signup" in created["reason"]

    # 5. The program missed the response and sends the batch again: no event is applied twice.
    again = formease.post("ingest/", batch, content_type=BATCH).json()["results"]
    assert [result["status"] for result in again] == ["duplicate", "duplicate", "rejected", "duplicate"]
    assert len(manager.events(f"form-{form}")) == 1
