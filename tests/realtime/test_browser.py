"""The JavaScript client in a real browser against real processes: two tabs, one socket, a killed web process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import command

pytestmark = [pytest.mark.browser, pytest.mark.services]

FOLLOW = """async () => {
    const { connect } = await import("/static/realtime/index.js");
    window.seen = [];
    const { session } = document.querySelector("[data-session]").dataset;
    window.live = connect({ url: "/ws/admin/", session });
    await new Promise((resolve) => live.subscribe(["settings"], {
        onEvent: (event) => seen.push(event.data.value), onSubscribed: resolve,
    }));
}"""

SET = """
from backoffice.sections.site_settings.domain import SetSetting
from events import commands
from events.types import Command, new_id
for value in {values}:
    commands.dispatch(Command(id=new_id(), key="live.test", data=SetSetting(value=value)))
"""


def set_values(stack: live.Stack, *values: str) -> None:
    stack.manage("shell", "--verbosity", "0", "-c", SET.format(values=json.dumps(values)))


def test_two_tabs_share_a_socket_and_miss_nothing_when_the_web_process_is_killed(
    stack: live.Stack, new_page: Callable[..., Any]
) -> None:
    first = new_page(role="admin")
    sockets: list[str] = []
    first.context.on("page", lambda page: page.on("websocket", lambda socket: sockets.append(socket.url)))
    first.evaluate(FOLLOW)
    second = first.context.new_page()
    second.goto("/admin/")
    second.evaluate(FOLLOW)
    for value in "ab":
        command(first, "setting.set", "live.test", {"value": value})
    for page in (first, second):
        page.wait_for_function("() => seen.join() === 'a,b'")
    stack.kill_web()
    first.wait_for_function("() => live.state === 'reconnecting'")
    set_values(stack, "c", "d")
    stack.start_web()
    for page in (first, second):
        page.wait_for_function("() => seen.join() === 'a,b,c,d'")
        assert page.evaluate("live.state") == "live"
    assert sockets == []


DOCS = Path(__file__).resolve().parents[2] / "docs" / "realtime.md"
CREATE = """
from backoffice.sections.users.domain import CreateUser
from events import commands
from events.types import Command, new_id
data = CreateUser(email="documented@example.org", first_name="Documented")
commands.dispatch(Command(id=new_id(), key=str(new_id()), data=data))
"""


def test_example_in_the_documentation_works(stack: live.Stack, new_page: Callable[..., Any]) -> None:
    """Runs the documented code unchanged, except for the import, which is dynamic here."""
    example = DOCS.read_text().split("## In a page of your own")[1]
    html, script = (example.split(f"```{language}\n")[1].split("```")[0] for language in ("html", "js"))
    head = stack.query(
        "select epoch::text, coalesce(pg_sequence_last_value('events_position_seq'), 0) from events_epoch"
    )
    html = html.replace("{{ epoch }}:{{ position }}", f"{head[0][0]}:{head[0][1]}")
    script, imports = re.subn(r'import \{ connect \} from ("[^"]+");', r"const { connect } = await import(\1);", script)
    assert imports == 1
    page = new_page(role="admin")
    page.evaluate("html => { document.querySelector('#content').innerHTML = html; }", html.partition("<script")[0])
    page.evaluate(f"async () => {{ {script} }}")
    page.wait_for_function("() => document.querySelector('#chip').textContent === 'live'")
    stack.manage("shell", "--verbosity", "0", "-c", CREATE)
    page.wait_for_function("() => /user.created .*Documented/.test(document.querySelector('#log li')?.textContent)")
