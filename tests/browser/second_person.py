"""A second person who saves while a page is open in the browser."""

from __future__ import annotations

import json
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.utils.crypto import get_random_string

from tests import live

EVERY_S = 0.3


class SecondPerson:
    """Somebody else who saves through the API from a thread of their own."""

    def __init__(self, stack: live.Stack, role: str) -> None:
        self.url = f"{stack.url}/api/v1/commands/"
        token = get_random_string(32)
        self.headers = {
            "Cookie": f"sessionid={stack.session(role)}; csrftoken={token}",
            "X-CSRFToken": token,
            "Content-Type": "application/json",
        }
        self.saves = threading.Semaphore(0)

    def save(self, kind: str, key: str, data: dict[str, Any], **more: Any) -> None:
        body = json.dumps({"id": str(uuid.uuid4()), "type": kind, "key": key, "data": data, **more}).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url, body, self.headers)) as answer:
            assert answer.status == 200

    @contextmanager
    def saving(self, kind: str, key: str, data_of: Callable[[int], dict[str, Any]]) -> Iterator[None]:
        """Saves `data_of(1)`, `data_of(2)`, … every 300 ms while the block runs."""
        done, failures = threading.Event(), []

        def run() -> None:
            number = 0
            try:
                while not done.is_set():
                    number += 1
                    self.save(kind, key, data_of(number))
                    self.saves.release()
                    done.wait(EVERY_S)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        assert not failures, failures
