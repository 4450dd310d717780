"""The private attributes of redis-py, uvicorn and the transports that `realtime` and `events` rely on.

A failure here means that a dependency has changed: read the decision that the test names before adapting the code.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from typing import Any

import hiredis
import pytest
import redis
import redis.asyncio as aioredis
import uvicorn
import uvloop
from django.conf import settings
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from realtime import frames, server
from tests.realtime import harness
from tests.realtime.harness import Server, run_scenario

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


# -- docs/adr/0015-redis-sockets.md ---------------------------------------------------------------------------------


def test_pooled_redis_connection_exposes_a_connected_socket_without_unread_bytes() -> None:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5, retry=None)
    connection = client.connection_pool.get_connection()
    try:
        raw = connection._sock
        assert isinstance(raw, socket.socket)
        poll = select.poll()
        poll.register(raw, select.POLLIN)
        assert not poll.poll(100), "answers of redis-py's handshake are left unread"
        assert not connection.can_read(timeout=0), "redis-py has buffered bytes of its own"
        raw.sendall(b"*3\r\n$7\r\nPUBLISH\r\n$8\r\nnowhere:\r\n$1\r\n1\r\n")
        assert raw.recv(100) == b":0\r\n"
    finally:
        connection.disconnect()


def test_redis_connection_sends_a_subscription_whose_answer_is_read_from_its_socket() -> None:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5, retry=None)
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("SUBSCRIBE", "nowhere:")
        parser = hiredis.Reader()
        parser.feed(connection._sock.recv(65536))
        assert list(parser.gets()) == [b"subscribe", b"nowhere:", 1]
    finally:
        connection.disconnect()


def test_async_redis_connection_exposes_its_stream_reader() -> None:
    async def scenario() -> None:
        client = aioredis.Redis.from_url(settings.REDIS_URL, socket_timeout=None, socket_connect_timeout=5.0)
        async with client, asyncio.timeout(10):
            connection = await client.connection_pool.get_connection()
            try:
                assert isinstance(connection._reader, asyncio.StreamReader)
                await connection.send_command("SUBSCRIBE", "nowhere:")
                parser = hiredis.Reader()
                parser.feed(await connection._reader.read(65536))
                assert list(parser.gets()) == [b"subscribe", b"nowhere:", 1]
                assert parser.gets() is False
            finally:
                await connection.disconnect()

    run_scenario(scenario())


# -- docs/adr/0016-frames-past-the-transport.md ---------------------------------------------------------------------


def test_uvicorn_protocol_has_the_attributes_that_ready_frames_need(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.raw(session) as connection:
            await harness.receive(connection, frames.Welcome)
            (socket_,) = server.hub.sockets.values()
            protocol = socket_._send.__self__  # `Socket.abort` finds the transport this way
            assert isinstance(protocol, WebSocketsSansIOProtocol)
            assert callable(protocol.transport.abort)
            assert callable(protocol.transport.get_write_buffer_size)
            assert isinstance(protocol.writable, asyncio.Event)
            assert protocol.writable.is_set()
            assert protocol.scheme == "ws"
            assert protocol.close_sent is False
            assert protocol.conn.extensions == []
            assert protocol.conn.handshake_exc is None
            assert "realtime.frames" in protocol.scope["extensions"]

    run_scenario(scenario())


def test_uvicorn_server_calls_the_methods_that_ours_overrides() -> None:
    for overridden, names in ((uvicorn.Server, ["startup", "shutdown"]), (WebSocketsSansIOProtocol, ["run_asgi"])):
        for name in names:
            assert asyncio.iscoroutinefunction(getattr(overridden, name))
    assert callable(WebSocketsSansIOProtocol.data_received)
    config = server.configure(lambda *_: None, log_config=None)
    config.load()
    assert config.ws_protocol_class is server.Protocol
    assert uvicorn.Server(config).force_exit is False


@pytest.mark.parametrize("loop", LOOPS)
def test_transport_exposes_a_non_blocking_descriptor_and_an_empty_buffer(loop: str) -> None:
    async def scenario() -> None:
        connected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        class Side(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                connected.set_result(transport)

        async with (
            asyncio.timeout(10),
            await asyncio.get_running_loop().create_server(Side, "127.0.0.1", 0) as listening,
        ):
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            transport = await connected
            descriptor = transport.get_extra_info("socket").fileno()
            assert descriptor >= 0
            assert os.get_blocking(descriptor) is False
            assert transport.get_write_buffer_size() == 0
            assert os.write(descriptor, b"past") == 4
            transport.write(b" and through")
            assert await reader.readexactly(16) == b"past and through"
            assert not transport.is_closing()
            transport.close()
            assert transport.is_closing()
            assert transport.get_extra_info("socket").fileno() in {descriptor, -1}
            writer.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario())
