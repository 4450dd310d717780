"""The hub of this process: started with the server or its first request, and reachable from any thread."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Final

from realtime import cluster, hub

# By event loop, of which a server process has one; tests run several servers in a process.
_hubs: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, hub.Hub]] = weakref.WeakKeyDictionary()


async def current() -> hub.Hub:
    """This process's hub, started on the running loop; Daphne has no lifespan that would have started it."""
    await start()
    return _hubs[asyncio.get_running_loop()]


async def start() -> None:
    """Start the hub on the running loop, for servers with a lifespan; `current` does it otherwise."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        local = _hubs[loop] = hub.Hub()
        await local.start()


async def stop() -> None:
    """Stop this process's hub, if it was started."""
    local = _hubs.pop(asyncio.get_running_loop(), None)
    if local is not None:
        await local.stop()


# Set when this process is about to stop: it still serves, but should get no more clients.
_leaving: Final = threading.Event()


def leave() -> None:
    """Note that this process is about to stop; `/readyz` answers 503 from now on."""
    _leaving.set()


def is_leaving() -> bool:
    """Whether this process is about to stop."""
    return _leaving.is_set()


async def drain() -> None:
    """Close this process's sockets in small groups, before a stop."""
    local = _hubs.get(asyncio.get_running_loop())
    if local is not None:
        await local.drain()


def status() -> cluster.HubStatus | None:
    """The state of this process's hub, from any thread; None when it was not started."""
    return next((local.status() for local in list(_hubs.values())), None)


def report() -> cluster.ProcessReport | None:
    """The latest report of this process, from any thread; None when it has no hub."""
    return next((local.reporter.latest for local in list(_hubs.values())), None)


def people() -> set[str]:
    """The people with a socket in this process, from any thread."""
    return {person for local in list(_hubs.values()) for person in list(local.sockets_by_person)}
