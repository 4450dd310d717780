"""The servers compared: our hub, our whole application, and alternatives. Each runs as a process of its own.

bare             `websockets.broadcast` to every connection: no topics, no positions, no credit
hub              our sockets and hub, fed with batches as the relay sends them; topics, `previous` and credit on
hub-uvicorn      the same under plain uvicorn, granian and Daphne, each started by its own command
hub-granian
hub-daphne
app              the application as it is deployed
channels-core    the stock consumer of the Channels tutorial on `RedisChannelLayer`
channels-pubsub  the same on `RedisPubSubChannelLayer`
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path
from typing import Any

FILLER = "x" * 60  # brings the whole frame to about 400 bytes


async def serve(kind: str, port: int, control: int) -> None:
    """Run one server with a control port.

    `p` publishes one event, `t` what the sampler does in a slot (our hub only), `c` returns CPU seconds and memory.
    """
    publish, server = await {"bare": bare, "hub": hub, "app": app}.get(kind, channels)(kind, port)

    async def handle_commands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(1):
            if command == b"p":
                result = publish()
                if asyncio.iscoroutine(result):
                    await result
            elif command == b"t":
                publish_sample()
            else:
                writer.write(usage())

    await asyncio.start_server(handle_commands, "127.0.0.1", control)
    await server


def usage() -> bytes:
    """CPU seconds and memory of this process, as a line of JSON."""
    return json.dumps({"cpu": time.process_time(), "rss": resident()}).encode() + b"\n"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def payload(number: int) -> str:
    """The message of the reference servers, as long as our event frame."""
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
    return lambda: broadcast(connected, payload(next(number))), server.serve_forever()


def uvicorn_server(application: Any, port: int) -> Any:
    from realtime.server import Server, configure

    return Server(configure(application, host="127.0.0.1", port=port, log_level="warning")).serve()


async def channels(kind: str, port: int) -> tuple[Any, Any]:
    """Run the stock consumer of the Channels tutorial on uvicorn (Daphne is slower still)."""
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

    class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc] # Channels has no types
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
        return layer.group_send("load", {"type": "load.event", "text": payload(next(number))})

    return publish, uvicorn_server(Consumer.as_asgi(), port)


async def hub(_kind: str, port: int) -> tuple[Any, Any]:
    """Run our hub under our own server."""
    prepare()
    from realtime import routing

    return await start_hub(), uvicorn_server(routing.websocket_application, port)


def prepare() -> None:
    """Set up Django for the hub. Clients authenticate by a token that needs no query."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    from django.test import override_settings

    override_settings(REALTIME=raised_limits()).enable()
    from realtime import auth

    who: auth.Identity = auth.Identity(principal=AdminPrincipal(), person="1", name="load", again=lambda: who)
    auth.TOKEN_AUTHENTICATORS.append(lambda _token: who)


async def start_hub() -> Any:
    """Start this loop's hub, fed with batches like those of the relay; returns a function that publishes one event."""
    from django.utils import timezone

    from events import types
    from realtime import hub as hubs
    from realtime import local_hub, log_reader
    from realtime import publish as bus

    class StaticLog(log_reader.LogReader):
        async def lineage(self) -> dict[str, int]:
            return {}

        async def head(self, *, doubtful: bool = False) -> log_reader.Head:
            return log_reader.Head("load", own.position, own.position)

    own = hubs.Hub(reader=StaticLog())
    local_hub._hubs[asyncio.get_running_loop()] = own
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
            recorded_at=timezone.now(),
            actor="load",
            reason=None,
            correlation_id=None,
            causation_id=None,
            metadata={},
        )
        raw = bus.encode(bus.Batch(epoch="load", previous=own.position, last=own.position + 1, events=[event]))
        own.receive(bus.decode(raw))

    return publish


def publish_sample() -> None:
    """Pass the frames of a sample with every metric to this loop's hub, and those of the widgets that changed."""
    from django.utils import timezone

    from metrics.dashboard import push
    from metrics.monitoring import sampling
    from metrics.monitoring.metric_types import METRICS
    from realtime import local_hub
    from realtime import publish as bus

    own, now = local_hub._hubs[asyncio.get_running_loop()], timezone.now().isoformat()
    values: dict[tuple[str, str], float | None] = {(name, ""): random.uniform(0, 100) for name in METRICS}
    sample = sampling.Sample(slot=1, previous=0, values=values, failed={})
    for topic, key, some in sampling.frames(sample):
        data = {"slot": 1, "previous": 0, "values": some, "pending": {}}
        own.receive(bus.Value(topic=topic, event=sampling.FRAME, key=key, data=data, timestamp=now))
    for kind in push.COUNTS:
        data = {"widget_id": kind, "data": {"changed": True}, "timestamp": now}
        own.receive(bus.Value(topic=push.TOPIC, event=push.EVENT, key=kind, data=data, timestamp=now))


class AdminPrincipal:
    """A principal that may follow every topic."""

    is_active = is_staff = is_superuser = True
    role = "admin"


async def app(_kind: str, port: int) -> tuple[Any, Any]:
    """Run the whole application as it is deployed."""
    import django

    django.setup()
    from django.test import override_settings

    override_settings(REALTIME=raised_limits(), API_RATE_PER_MINUTE=0).enable()
    return (lambda: None), uvicorn_server("backoffice.asgi:application", port)


def raised_limits() -> dict[str, Any]:
    """The limits for a load test, whose clients share one address and one person."""
    many = 10_000
    return {
        "connections_per_person": many,
        "connections_per_address": many,
        "handshakes_per_minute": 600_000.0,
        "presence_renew": 5.0,
    }
