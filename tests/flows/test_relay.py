"""The journey of an event: commit, relay, hub, socket; and the fallback for each part that is down."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import live
from tests.flows.people import Person

pytestmark = pytest.mark.services


def test_event_reaches_a_socket_once_and_in_order_whatever_fails(
    stack: live.Stack, person: Callable[[str], Person]
) -> None:
    manager, viewer = person("manager"), person("viewer")
    key = manager.create("user", first_name="Version 1")

    def change(version: int) -> int:
        """Make a version of the record and return the position of its event."""
        answer = manager.command("user.update", key, {"first_name": f"Version {version}"}).json()
        assert answer["version"] == version
        position: int = answer["position"]
        return position

    with viewer.listen(f"user:{key}") as listener:
        # 1. The relay publishes the committed event; the hub sends it to the sockets of its topics.
        frame = listener.wait_for(change(2))
        assert (frame.event, frame.stream, frame.data) == ("user.updated", f"user-{key}", {"first_name": "Version 2"})

        # 2. Without the relay the hub reads the log itself.
        stack.kill_process("subscriptions")
        listener.wait_for(change(3))

        # 3. A client that lost its server resumes at its position. The event it missed is replayed.
        stack.start_subscriptions()
        stack.kill_web()
        stack.start_web()
        missed = change(4)
        assert listener.wait_for(missed).data == {"first_name": "Version 4"}

        # 4. Nothing was lost, repeated or reordered on the way. A hub that was behind also sends the first version.
        assert [frame.version for frame in listener.received if frame.version > 1] == [2, 3, 4]


def test_socket_ends_with_the_session_that_opened_it(stack: live.Stack, person: Callable[[str], Person]) -> None:
    manager, viewer = person("manager"), person("viewer")
    key = manager.create("user")
    with viewer.listen("users") as listener:
        listener.wait_for(manager.command("user.update", key, {"first_name": "Seen"}).json()["position"])

        # 1. The session ends without an event or message.
        session = viewer.cookie.partition("=")[2]
        stack.query("delete from django_session where session_key = %s", session)

        # 2. The socket is closed with a code that forbids reconnecting.
        assert 4500 <= listener.wait_until_stopped().code <= 4999

        # 3. The socket receives no later event.
        unseen = manager.command("user.update", key, {"first_name": "Unseen"}).json()["position"]
    assert unseen not in [frame.position for frame in listener.received]
