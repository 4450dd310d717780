"""The application under every supported server, each as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from websockets.exceptions import InvalidStatus

from backoffice.sections.staff.domain import StaffSessionRevoked
from backoffice.sections.users.domain import UserUpdated
from devtools import processes
from realtime import client, conf, frames
from tests.realtime import harness
from tests.realtime.harness import Writer, run_scenario

PROJECT = Path(__file__).resolve().parents[2]
APPLICATION = "backoffice.asgi:application"

# The command line of each. `make run` and production use the last.
SERVERS = {
    "daphne": ["daphne", "--bind", "127.0.0.1", "--port", "{port}", APPLICATION],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", APPLICATION],
    "uvicorn": ["uvicorn", "--ws", "websockets-sansio", "--port", "{port}", APPLICATION],
    "realtime.server": ["realtime.server", APPLICATION, "--port", "{port}"],
}


@contextlib.asynccontextmanager
async def serving(name: str) -> AsyncIterator[str]:
    """Starts a server; yields the URL of its sockets once it accepts connections."""
    port = processes.free_port()
    process = subprocess.Popen(
        processes.child_command([sys.executable, "-m", *(part.format(port=port) for part in SERVERS[name])]),
        cwd=PROJECT,
        env=harness.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                _, stream = await asyncio.open_connection("127.0.0.1", port)
                stream.close()
                break
            assert process.poll() is None, f"{name} did not start"
            await asyncio.sleep(0.05)
        yield f"ws://127.0.0.1:{port}/ws/admin/"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 10)
        process.kill()
        process.wait()


def bare(url: str, session: str | None, **options: Any) -> Any:
    headers = {"Cookie": harness.cookie(session)} if session else {}
    given = {"origin": settings.ALLOWED_ORIGINS[0], "subprotocols": [frames.SUBPROTOCOL], "compression": None}
    return harness.ws.connect(url, additional_headers=headers, **(given | options))


@pytest.mark.services
@pytest.mark.parametrize("name", SERVERS)
def test_every_server_passes_the_same_socket_checks(name: str, writer: Writer) -> None:
    """Refusals, exactly-once delivery, credit towards a client that never acknowledges, and a revocation."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: it is part of the extra `test`")
    staff, session = harness.sign_in("agent")
    window = conf.limits().window_frames

    async def scenario() -> None:
        async with serving(name) as url:
            await refuses(url, session)
            stamp = await writer.head()
            async with (
                client.Client(url, cookie=harness.cookie(session), origin=settings.ALLOWED_ORIGINS[0]) as live,
                bare(url, session) as silent,
            ):
                items = aiter(live)
                await live.follow("users", since=stamp)
                await silent.send(frames.encode(frames.Subscribe(id=1, topics=["users"], since=stamp)))
                burst = [UserUpdated(first_name=str(number)) for number in range(window + 50)]
                last = await writer.append(harness.new_user(), *burst)
                seen = [event.position for event in await harness.events_until(items, last)]
                assert seen == await writer.log(stamp.position)
                received = [(await harness.receive(silent, frames.EventFrame)).position for _ in range(window)]
                assert received == seen[:window]
                await silent.send(frames.encode(frames.Ack(position=received[-1])))
                assert (await harness.receive(silent, frames.EventFrame)).position == seen[window]
                await writer.append(f"staff-{staff.pk}", StaffSessionRevoked())
                with pytest.raises(client.Stopped) as stopped:
                    await harness.next_of(items, frames.EventFrame)
                assert stopped.value.code == frames.REVOKED
                with pytest.raises(harness.Closed) as closed:
                    await harness.receive(silent, frames.Welcome)
                assert closed.value.rcvd.code == frames.REVOKED
            assert live.connected == 1

    run_scenario(scenario())


async def refuses(url: str, session: str) -> None:
    """Check that a foreign origin gets 403, and an anonymous client `goodbye` inside the socket."""
    with pytest.raises(InvalidStatus) as refused:
        async with bare(url, session, origin="http://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    async with bare(url, None) as nobody:
        assert (await harness.receive(nobody, frames.Goodbye)).code == frames.REVOKED
        with pytest.raises(harness.Closed) as closed:
            await nobody.recv()
        assert closed.value.rcvd.code == frames.REVOKED


@pytest.mark.services
def test_server_without_a_lifespan_follows_the_log_from_its_first_request(transactional_db: None) -> None:
    """Only a process that follows the log may use cached figures."""

    async def scenario() -> None:
        async with serving("daphne") as url:
            address = f"http{url.removeprefix('ws').removesuffix('/ws/admin/')}/readyz"
            while True:
                answer = await asyncio.to_thread(_get_json, address)
                assert answer["checks"]["live"] != "idle"
                if answer["checks"]["live"] != "behind":
                    break
                await asyncio.sleep(0.05)

    run_scenario(scenario())


def _get_json(address: str) -> Any:
    with urllib.request.urlopen(address) as response:
        return json.load(response)
