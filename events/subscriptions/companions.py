"""Loops that `run_subscriptions` runs beside the subscriptions, each in a thread; registered by layers above."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

# Runs until the event is set; handles its own errors and closes its connection.
Loop: TypeAlias = Callable[[threading.Event], None]

loops: dict[str, Loop] = {}


def register(name: str, loop: Loop) -> None:
    """Have `run_subscriptions` run this loop; called from `AppConfig.ready()`. May be repeated."""
    loops[name] = loop
