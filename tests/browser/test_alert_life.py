"""An alert from pending to resolved on a running installation: its sampler, two browsers, a receiver of webhooks."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devtools import webhooks
from devtools.webhooks import Received
from tests import live
from tests.browser.test_admin import expect

pytestmark = [pytest.mark.browser, pytest.mark.services]

ALERT = "life_of_an_alert"
PATIENCE = 40_000  # milliseconds; a slot is five seconds

CREATE = f"""
from events import commands, types
from metrics.monitoring.alerting import rules
from metrics.monitoring.notify import changes

key = changes.write(None, dict(name="{ALERT}", kind="webhook", url="URL")).signing_key
data = rules.CreateRule(title="Conflicts of a test", metric="conflicts.open", warn=LEVEL, for_seconds=15,
    keep_seconds=0, channels=["{ALERT}"])
commands.dispatch(types.Command(id=types.new_id(), key="{ALERT}", data=data))
print(key)
"""
DELETE = f"""
from events import commands, types
from metrics.monitoring.alerting import rules
from metrics.monitoring.notify import changes, models

commands.dispatch(types.Command(id=types.new_id(), key="{ALERT}", data=rules.DeleteRule()))
changes.delete(models.Channel.objects.get(name="{ALERT}", deleted_at=None).pk)
"""
OPEN_CONFLICT = """
insert into conflicts (id, version, status, category, key, command_type, why, paths, reason, base_version, author,
                       author_name, comments, created_at, updated_at)
values (gen_random_uuid(), 1, 'open', 'user', 'nobody', 'user.update', 'fields', '[]', '', 1, 'staff:0', '', 0, now(),
        now())
returning id
"""


class Phone:
    """Receives webhooks of the alert. The first attempt while it is firing is refused, so it is repeated.

    The sampler of the stack also judges the default rules by this machine; their messages are accepted and ignored.
    """

    def __init__(self) -> None:
        self.arrived: queue.Queue[Received] = queue.Queue()
        self.server = webhooks.Receiver(self._answer)
        self.server.start()

    def _answer(self, received: Received) -> int:
        if received.body["data"]["alert"] != ALERT:
            return 204
        self.arrived.put(received)
        return 503 if received.body["type"] == "alert.firing" and not received.earlier else 204

    def next(self) -> Received:
        return self.arrived.get(timeout=60)


@pytest.fixture
def phone(stack: live.Stack) -> Iterator[Phone]:
    """A receiver, its channel, and a rule that fires with one more open conflict than there are."""
    made = Phone()
    ((conflicts,),) = stack.query("select count(*) from conflicts where status = 'open'")
    script = CREATE.replace("URL", made.server.url).replace("LEVEL", str(conflicts + 0.5))
    made.server.key = stack.manage("shell", "-v", "0", "-c", script).strip().splitlines()[-1]
    yield made
    stack.manage("shell", "-c", DELETE)
    made.server.close()


def test_alert_is_pending_firing_acknowledged_and_resolved_in_two_browsers_and_notified(
    new_page: Callable[..., Any], stack: live.Stack, phone: Phone
) -> None:
    manager, viewer = (new_page(role=role, at="/admin/alerts/") for role in ("manager", "viewer"))
    ((conflict,),) = stack.query(OPEN_CONFLICT)
    try:
        expect(viewer.locator("[data-part=pending]")).to_contain_text("Conflicts of a test", timeout=PATIENCE)
        for page in (manager, viewer):
            expect(page.locator(f"[data-alert={ALERT}][data-state=firing]")).to_be_visible(timeout=PATIENCE)
        manager.locator(f"[data-alert={ALERT}] a.name").click()
        manager.get_by_label("Comment").fill("Half a sentence")
        manager.get_by_label("Note").fill("On it.")
        manager.get_by_role("button", name="Acknowledge", exact=True).click()
        expect(manager.locator("[data-part=timeline]")).to_contain_text("On it.")
        expect(manager.get_by_label("Comment")).to_have_value("Half a sentence")
        manager.get_by_label("Comment").fill("")
        assert manager.evaluate("dispatchEvent(new Event('beforeunload', { cancelable: true }))"), "nothing is unsaved"
        refused, accepted = phone.next(), phone.next()
        assert refused.body["type"] == "alert.firing"
        assert refused.is_signed
        assert accepted.is_signed
        assert (refused.id, refused.body) == (accepted.id, accepted.body)
        acknowledged = viewer.locator(f"[data-alert={ALERT}][data-state=acknowledged]")
        expect(acknowledged).to_contain_text("Acknowledged", timeout=PATIENCE)
    finally:
        stack.query("delete from conflicts where id = %s", conflict)
    expect(manager.locator("[data-part=state]")).to_contain_text("Resolved", timeout=PATIENCE)
    expect(viewer.locator(f"[data-part=open] [data-alert={ALERT}]")).to_have_count(0, timeout=PATIENCE)
    expect(viewer.locator("[data-part=past]")).to_contain_text("Conflicts of a test")
    resolved = phone.next()
    assert (resolved.body["type"], resolved.is_signed) == ("alert.resolved", True)
    assert phone.arrived.empty()
