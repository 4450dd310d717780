"""The journey of a read table: derived from the log, damaged, rebuilt beside the live one, swapped in."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from tests import live
from tests.flows.people import Person

pytestmark = pytest.mark.services


def test_damaged_read_table_is_rebuilt_while_people_write(stack: live.Stack, person: Callable[[str], Person]) -> None:
    manager = person("manager")
    keys = [manager.create("user") for _ in range(3)]

    # 1. One row is damaged and another deleted by direct SQL. The log is unchanged.
    stack.query("update users set first_name = 'damaged' where id = %s", keys[0])
    stack.query("delete from users where id = %s", keys[1])
    assert manager.send("GET", f"users/{keys[1]}/").status == 404

    # 2. The table is rebuilt from the log while commands continue.
    written: list[int] = []
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            written.append(manager.command("user.update", keys[2], {"first_name": f"N{len(written)}"}).status)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        built = json.loads(stack.manage("rebuild_projection", "users", "--fresh", "--json"))
    finally:
        done.set()
        writer.join()

    # 3. No writer was refused, and no change is missing after the swap.
    assert set(written) == {200}
    assert manager.get(f"users/{keys[2]}/")["first_name"] == f"N{len(written) - 1}"
    assert built["events"] > 0

    # 4. The damaged and the deleted row equal the state in the log again.
    assert [manager.get(f"users/{key}/")["first_name"] for key in keys[:2]] == ["", ""]
