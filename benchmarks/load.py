"""How many deliveries, how fast, at what price: `make load` (or `python benchmarks/load.py --quick`).

The server runs as a process of its own on the first core, the clients here on the second; everything on 127.0.0.1, on
throw-away services. Each part runs its reference beside it: only ratios within one run mean anything.

1  fan-out      400-byte events to N sockets, 4 in flight: our hub (topics, `previous` and credit on), bare
                `websockets.broadcast`, and the stock Channels consumer on both Redis layers
2  latency      commit -> frame in the client: 20 events/s through store, relay and Valkey
3  handshakes   signed in by session cookie, per second
4  storm        all clients lose their connection, miss 100 events and resume
5  revocation   event appended -> socket closed
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
FILLER = "x" * 60  # brings the whole frame to about 400 bytes
IN_FLIGHT = 4
PATIENCE = 60.0


# -- the server's side ----------------------------------------------------------------------------------------------


async def serve(kind: str, port: int, control: int) -> None:
    """One contender, with a control line: `p` publishes one event, `c` tells CPU seconds and memory."""
    publish, server = await {"bare": bare, "hub": hub, "app": app}.get(kind, channels)(kind, port)

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while order := await reader.read(1):
            if order == b"p":
                result = publish()
                if asyncio.iscoroutine(result):
                    await result
            else:
                usage = {"cpu": time.process_time(), "rss": resident()}
                writer.write(json.dumps(usage).encode() + b"\n")

    await asyncio.start_server(obey, "127.0.0.1", control)
    await server


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wire(number: int) -> str:
    """What the others send: as long as our event frame."""
    return json.dumps({"type": "event", "number": number, "filler": "x" * 355})


async def bare(_kind: str, port: int) -> tuple[Any, Any]:
    from websockets.asyncio.server import broadcast
    from websockets.asyncio.server import serve as listen

    connected = set()
    number = iter(range(10**9))

    async def stay(connection: Any) -> None:
        connected.add(connection)
        await connection.wait_closed()

    server = await listen(stay, "127.0.0.1", port, compression=None, ping_interval=None)
    return lambda: broadcast(connected, wire(next(number))), server.serve_forever()


def uvicorn_server(application: Any, port: int) -> Any:
    from realtime.server import Server, configure

    return Server(configure(application, host="127.0.0.1", port=port, log_level="warning")).serve()


async def channels(kind: str, port: int) -> tuple[Any, Any]:
    """The stock consumer of the Channels tutorial, on uvicorn (Daphne is slower still)."""
    import django

    django.setup()
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels_redis.core import RedisChannelLayer
    from channels_redis.pubsub import RedisPubSubChannelLayer

    host = {"address": os.environ["REDIS_URL"], "socket_timeout": None}
    layer = (
        RedisChannelLayer(hosts=[host], capacity=100_000)
        if kind == "channels-core"
        else RedisPubSubChannelLayer(hosts=[host])
    )

    class Consumer(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            self.channel_layer = layer
            await layer.group_add("load", self.channel_name)
            await self.accept()

        async def load_event(self, event: dict[str, Any]) -> None:
            await self.send(text_data=event["text"])

    import channels.layers

    channels.layers.channel_layers.set("default", layer)
    number = iter(range(10**9))

    def publish() -> Any:
        return layer.group_send("load", {"type": "load.event", "text": wire(next(number))})

    return publish, uvicorn_server(Consumer.as_asgi(), port)


async def hub(_kind: str, port: int) -> tuple[Any, Any]:
    """Our hub, fed with batches as the relay sends them; who connects is known by a token, so nothing is queried."""
    import django

    django.setup()
    from django.test import override_settings

    override_settings(REALTIME=roomy()).enable()
    from events import types
    from realtime import auth, log, routing
    from realtime import hub as hubs
    from realtime import publish as bus

    who = auth.Identity(principal=Everything(), person="1", name="load", again=lambda: who)
    auth.TOKEN_AUTHENTICATORS.append(lambda _token: who)

    class Still(log.Log):
        async def head(self) -> log.Head:
            return log.Head("load", own.position, own.position)

    own = hubs.Hub(reader=Still())
    hubs._hubs[asyncio.get_running_loop()] = own
    await own.start()

    def publish() -> None:
        event = types.RecordedEvent(
            position=own.position + 1,
            stream=f"user-{types.new_id()}",
            version=1,
            type="user.updated",
            schema_version=1,
            data={"first_name": FILLER},
            event_id=types.new_id(),
            recorded_at=django.utils.timezone.now(),
            actor="load",
            reason=None,
            correlation_id=None,
            causation_id=None,
            metadata={},
        )
        raw = bus.encode(bus.Batch(epoch="load", previous=own.position, last=own.position + 1, events=[event]))
        own.receive(bus.decode(raw))

    return publish, uvicorn_server(routing.websocket_application, port)


class Everything:
    """Somebody who may follow everything."""

    is_active = is_staff = is_superuser = True
    role = "admin"


async def app(_kind: str, port: int) -> tuple[Any, Any]:
    """The whole application as it is deployed."""
    import django

    django.setup()
    from django.test import override_settings

    override_settings(REALTIME=roomy()).enable()
    return (lambda: None), uvicorn_server("backoffice.asgi:application", port)


def roomy() -> dict[str, Any]:
    """All clients of a load test come from one address and are one person."""
    many = 10_000
    return {
        "connections_per_person": many,
        "connections_per_address": many,
        "handshakes_per_minute": 600_000.0,
        "presence_renew": 5.0,
    }


# -- the clients' side ----------------------------------------------------------------------------------------------


class Reader(asyncio.Protocol):
    """A WebSocket client that does as little as possible: counts event frames, acknowledges, notes when."""

    def __init__(self, swarm: Swarm, headers: str, subscribe: bytes | None) -> None:
        self.swarm, self.headers, self.subscribe = swarm, headers, subscribe
        self.buffer = b""
        self.upgraded = False
        self.count = 0
        self.position = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.headers.encode())

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        at = 0
        if not self.upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(buffer[:200])
            self.upgraded, at = True, end + 4
            if self.subscribe is None:
                self.ready.set_result(None)
        size = len(buffer)
        while size - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if size - start < length:
                break
            self.frame(buffer[at] & 15, buffer[start : start + length])
            at = start + length
        self.buffer = buffer[at:]

    def frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.gone()
        elif payload.startswith(b'{"type":"goodbye"') and not self.ready.done():
            self.ready.set_exception(RuntimeError(payload.decode()))
        elif payload.startswith((b'{"type":"event"', b'{"type": "event"')):
            self.count += 1
            self.swarm.arrived(self.count)
            if self.subscribe is not None and self.count % 64 == 0:
                self.send(b'{"type":"ack","position":%d}' % position_of(payload))
            if self.subscribe is not None and self.swarm.keep_positions:
                self.position = position_of(payload)
        elif payload.startswith(b'{"type":"welcome"') and self.subscribe is not None:
            self.send(self.subscribe)
        elif payload.startswith(b'{"type":"subscribed"') and not self.ready.done():
            self.ready.set_result(None)
        elif payload.startswith(b'{"type":"ping"'):
            self.send(payload.replace(b"ping", b"pong", 1))

    def send(self, payload: bytes) -> None:
        """Masked with zeros, which is a mask like any other."""
        size = len(payload)
        head = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self.transport.write(b"\x81" + head + b"\0\0\0\0" + payload)

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone()

    def gone(self) -> None:
        if not self.closed.done():
            self.closed.set_result(time.perf_counter())


def position_of(payload: bytes) -> int:
    start = payload.index(b'"position":') + 11
    return int(payload[start : payload.index(b",", start)])


class Swarm:
    """Many readers, and when each message arrived at each of them."""

    def __init__(self, port: int, extra: str, subscribe: bytes | None) -> None:
        self.port, self.extra, self.subscribe = port, extra, subscribe
        self.readers: list[Reader] = []
        self.sent: list[float] = []
        self.latencies: list[float] = []
        self.total = 0
        self.base = 0
        self.keep_positions = False
        self.wanted: tuple[int, asyncio.Future[None]] | None = None

    def arrived(self, number: int) -> None:
        self.total += 1
        if self.base < number <= self.base + len(self.sent):
            self.latencies.append(time.perf_counter() - self.sent[number - self.base - 1])
        if self.wanted is not None and self.total >= self.wanted[0]:
            wanted, self.wanted = self.wanted, None
            wanted[1].set_result(None)

    async def until(self, total: int) -> None:
        """Until that many frames have arrived in all."""
        if self.total < total:
            done = asyncio.get_running_loop().create_future()
            self.wanted = (total, done)
            await asyncio.wait_for(done, PATIENCE)

    async def connect(self, number: int, at_once: int = 50) -> float:
        """Connect that many; returns the seconds it took."""
        gate, started = asyncio.Semaphore(at_once), time.perf_counter()

        async def one() -> Reader:
            async with gate:
                _, reader = await asyncio.get_running_loop().create_connection(
                    lambda: Reader(self, handshake(self.port, self.extra), self.subscribe), "127.0.0.1", self.port
                )
                await asyncio.wait_for(reader.ready, PATIENCE)
                return reader

        self.readers += await asyncio.gather(*(one() for _ in range(number)))
        return time.perf_counter() - started

    def close(self) -> None:
        for reader in self.readers:
            reader.transport.abort()
        self.readers.clear()


def handshake(port: int, extra: str) -> str:
    return (
        f"GET /ws/admin/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"{extra}\r\n"
    )


SUBSCRIBE = b'{"type":"subscribe","id":1,"topics":["users"]}'
PROTOCOL = "Sec-WebSocket-Protocol: formease.admin.v1\r\n"


@contextlib.asynccontextmanager
async def contender(kind: str) -> AsyncIterator[tuple[int, Any]]:
    """A server process on the first core, and its control line."""
    port, control = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, "--port", str(port), "--control", str(control)], cwd=PROJECT
    )
    os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))} if not CORES else {CORES[0]})
    try:
        line = await connected(control, process)
        with contextlib.suppress(OSError):
            await connected(port, process)
        yield port, line
    finally:
        process.kill()
        process.wait()


async def connected(port: int, process: subprocess.Popen[bytes]) -> Any:
    for _ in range(600):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.poll() is not None:
                raise RuntimeError("the server did not start") from None
            await asyncio.sleep(0.05)
    raise RuntimeError("the server did not start")


async def usage(line: Any) -> dict[str, float]:
    reader, writer = line
    writer.write(b"c")
    answer: dict[str, float] = json.loads(await reader.readline())
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


# -- the parts ------------------------------------------------------------------------------------------------------


async def fan_out(kind: str, sockets: int, seconds: float) -> dict[str, Any]:
    ours = kind == "hub"
    async with contender(kind) as (port, line):
        before = await usage(line)
        swarm = Swarm(port, PROTOCOL + "Authorization: Bearer load\r\n" if ours else "", SUBSCRIBE if ours else None)
        await swarm.connect(sockets)
        settled = await usage(line)
        await run_messages(swarm, line, sockets, 10)
        swarm.latencies.clear()
        swarm.base, swarm.sent = swarm.base + len(swarm.sent), []
        start_cpu, started, total = (await usage(line))["cpu"], time.perf_counter(), swarm.total
        while time.perf_counter() - started < seconds:
            await run_messages(swarm, line, sockets, 10)
        elapsed = time.perf_counter() - started
        delivered = swarm.total - total
        cpu = (await usage(line))["cpu"] - start_cpu
        swarm.close()
    return {
        "who": kind,
        "sockets": sockets,
        "per_second": round(delivered / elapsed),
        "p50_ms": round(quantile(swarm.latencies, 0.5) * 1000, 1),
        "p99_ms": round(quantile(swarm.latencies, 0.99) * 1000, 1),
        "cpu_us": round(cpu / delivered * 1e6, 1),
        "kib_a_socket": round((settled["rss"] - before["rss"]) / sockets / 1024, 1),
    }


async def run_messages(swarm: Swarm, line: Any, sockets: int, number: int) -> None:
    """Publish, never more than `IN_FLIGHT` messages ahead of the slowest socket (counted in all)."""
    done_before = swarm.total // sockets
    for index in range(number):
        await swarm.until((done_before + index + 1 - IN_FLIGHT) * sockets)
        swarm.sent.append(time.perf_counter())
        line[1].write(b"p")
    await swarm.until((done_before + number) * sockets)


async def whole_path(session: str, sockets: int, origin: str) -> dict[str, Any]:
    """Parts 2 to 5 on the application as deployed, with the real store, relay and Valkey."""
    figures: dict[str, Any] = {"sockets": sockets}
    extra = PROTOCOL + f"Origin: {origin}\r\nCookie: sessionid={session}\r\n"
    relay = subprocess.Popen([sys.executable, "manage.py", "run_subscriptions"], cwd=PROJECT)
    try:
        async with contender("app") as (port, _line):
            swarm = Swarm(port, extra, SUBSCRIBE)
            figures["handshakes_per_second"] = round(sockets / await swarm.connect(sockets))
            await asyncio.sleep(2.0)  # the relay's first lease
            figures |= await latency(swarm, sockets)
            figures |= await storm(swarm, sockets)
            figures |= await revocation(swarm)
            swarm.close()
    finally:
        relay.terminate()
        relay.wait()
    return figures


async def latency(swarm: Swarm, sockets: int) -> dict[str, Any]:
    swarm.latencies.clear()
    swarm.base, swarm.sent = max(reader.count for reader in swarm.readers), []
    start = swarm.total
    for number in range(100):
        at = await append(1)
        swarm.sent.append(at)
        await swarm.until(start + (number - 5) * sockets)
        await asyncio.sleep(max(0.0, at + 0.05 - time.perf_counter()))
    await swarm.until(start + 100 * sockets)
    return {
        "commit_to_frame_p50_ms": round(quantile(swarm.latencies, 0.5) * 1000, 1),
        "commit_to_frame_p99_ms": round(quantile(swarm.latencies, 0.99) * 1000, 1),
    }


async def storm(swarm: Swarm, sockets: int) -> dict[str, Any]:
    epoch, position = await database(stamp)
    swarm.close()
    await append(100)
    swarm.subscribe = json.dumps(
        {"type": "subscribe", "id": 1, "topics": ["users"], "since": {"epoch": epoch, "position": position}}
    ).encode()
    before = swarm.total
    started = time.perf_counter()
    await swarm.connect(sockets, at_once=sockets)
    await swarm.until(before + 100 * sockets)
    return {
        "storm_seconds": round(time.perf_counter() - started, 2),
        "storm_lost": sum(100 - reader.count for reader in swarm.readers),
    }


async def revocation(swarm: Swarm) -> dict[str, Any]:
    at = await database(revoke)
    closed = await asyncio.wait_for(asyncio.gather(*(reader.closed for reader in swarm.readers)), PATIENCE)
    took = [when - at for when in closed]
    return {
        "revoked_p50_ms": round(statistics.median(took) * 1000),
        "revoked_p99_ms": round(quantile(took, 0.99) * 1000),
    }


async def database(work: Any) -> Any:
    return await asyncio.to_thread(work)


async def append(number: int) -> float:
    return await database(lambda: append_now(number))


def append_now(number: int) -> float:
    from backoffice.domain.users import UserUpdated
    from events import store
    from events.types import new_id

    for _ in range(number):
        store.append(f"user-{new_id()}", [UserUpdated(first_name=FILLER)])
    return time.perf_counter()


def stamp() -> tuple[str, int]:
    from events import head

    return head.epoch(), head.safe()


def revoke() -> float:
    from backoffice.domain.staff import StaffSessionRevoked
    from backoffice.models import Staff
    from events import store

    store.append(f"staff-{Staff.objects.get().pk}", [StaffSessionRevoked()])
    return time.perf_counter()


# -- the whole ------------------------------------------------------------------------------------------------------

CORES = sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def services() -> Iterator[None]:
    """Throw-away PostgreSQL and Valkey, with fsync on."""
    from backoffice import embedded

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        postgres, valkey = embedded.Postgres(Path(folder)), embedded.Valkey(Path(folder))
        postgres.start()
        valkey.start()
        os.environ |= {
            "DATABASE_URL": postgres.url(),
            "REDIS_URL": valkey.url(),
            "DJANGO_SETTINGS_MODULE": "backoffice.settings",
            "DATA_DIR": folder,
            "LOG_LEVEL": "WARNING",
            "REALTIME_LOAD": "1",
        }
        try:
            yield
        finally:
            valkey.stop()
            postgres.stop()


def sign_in() -> tuple[str, str]:
    """A session of somebody who may see everything, and an origin that is allowed."""
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    from backoffice.models import Staff

    call_command("migrate", verbosity=0)
    staff = Staff.objects.create_user(username="load", role="admin", is_staff=True, is_superuser=True)
    session = SessionStore()
    session["_auth_user_id"] = str(staff.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = staff.get_session_auth_hash()
    session.create()
    return session.session_key or "", settings.ALLOWED_ORIGINS[0]


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0])
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in names]
    lines = [names, ["-" * width for width in widths], *([str(row[name]) for name in names] for row in rows)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sockets, shorter runs")
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", nargs="*", help="hub, bare, channels-core, channels-pubsub, path")
    parser.add_argument("--json", type=Path, default=PROJECT / "benchmarks/results/load.json")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--control", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    import uvloop

    if options.serve:
        uvloop.run(serve(options.serve, options.port, options.control))
        return
    sockets, seconds = (200, 1.5) if options.quick else (options.sockets, options.seconds)
    with services():
        results = uvloop.run(measure(options.only, sockets, seconds, *sign_in()))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2))


async def measure(only: list[str] | None, sockets: int, seconds: float, session: str, origin: str) -> dict[str, Any]:
    results: dict[str, Any] = {"fan_out": []}
    runs = [(kind, sockets) for kind in ("bare", "hub", "channels-core", "channels-pubsub")] + [("hub", 2 * sockets)]
    if len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[1]})
    for kind, number in runs:
        if not only or kind in only:
            results["fan_out"].append(await fan_out(kind, number, seconds))
    if results["fan_out"]:
        print(table(results["fan_out"]))
    if not only or "path" in only:
        results["path"] = await whole_path(session, sockets, origin)
        print()
        print(table([{"figure": name, "value": value} for name, value in results["path"].items()]))
    return results


if __name__ == "__main__":
    main()
