"""Frames written past the transport: every byte once and in order, whatever the kernel takes, and never under TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from uvicorn.server import ServerState

from realtime import ready_frames, server
from tests.realtime.harness import ws

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def play(scene: Coroutine[Any, Any, None], loop: str) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scene

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


class Side(asyncio.Protocol):
    """The server's side of one connection, with its line."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.made, self.lost = loop.create_future(), loop.create_future()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.line = server.Line(transport, self.writable, plain=True)
        self.made.set_result(None)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Side, asyncio.StreamReader, asyncio.StreamWriter]]:
    side = Side()
    listening = await asyncio.get_running_loop().create_server(lambda: side, "127.0.0.1", 0)
    async with listening:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        await side.made
        yield side, reader, writer
        writer.transport.abort()
        side.transport.abort()
        await side.lost


def frame(number: int) -> bytes:
    return ready_frames.text_frame(f"{number:08d}" * 8_000)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_the_kernel_does_not_take_waits_in_the_transport_and_nothing_overtakes_it(loop: str) -> None:
    async def scene() -> None:
        async with connected() as (side, reader, _):
            written = 0
            while side.line.write(frame(written)):  # until the client's silence reaches us
                written += 1
            assert side.transport.get_write_buffer_size() > 0
            assert not side.line.write(frame(written)), "nothing is written while sends would wait"
            expected = b"".join(frame(number) for number in range(written))
            assert await reader.readexactly(len(expected)) == expected
            await side.writable.wait()
            assert side.line.write(b"next")
            assert await reader.readexactly(4) == b"next"

    play(scene(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_frames_stay_behind_what_was_sent_the_usual_way(loop: str) -> None:
    async def scene() -> None:
        async with connected() as (side, reader, _):
            for number in range(200):
                side.transport.write(b"a%07d" % number)
                assert side.line.write(b"b%07d" % number)
            assert await reader.readexactly(3200) == b"".join(b"a%07db%07d" % (n, n) for n in range(200))

    play(scene(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_closing_line_writes_nothing_and_a_lost_one_raises_nothing(loop: str) -> None:
    async def scene() -> None:
        async with connected() as (side, reader, _):
            side.transport.close()
            assert not side.line.write(b"late")
            assert await reader.read() == b""
            assert not side.line.write(b"later")
        async with connected() as (side, _, writer):
            writer.transport.abort()
            while not side.lost.done():  # the client has gone: the transport says so, we never do
                side.line.write(frame(0))
                await asyncio.sleep(0)
            assert not side.line.write(b"late")

    play(scene(), loop)


def certificate(folder: Path) -> Path:
    """For 127.0.0.1, by itself, for an hour."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "test.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("loop", LOOPS)
def test_under_tls_frames_are_encrypted_like_everything_else(loop: str, tmp_path: Path) -> None:
    async def application(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        write = ready_frames.writer(scope)
        assert write is not None
        for number in range(3):
            assert write(ready_frames.text_frame(f"ready {number}"))
            await send({"type": "websocket.send", "text": f"usual {number}"})

    async def scene() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path))
        config = server.configure(application, log_config=None, lifespan="off")
        config.load()
        listening = await asyncio.get_running_loop().create_server(
            lambda: server.Protocol(config, ServerState(), {}), "127.0.0.1", 0, ssl=context
        )
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        host, port = listening.sockets[0].getsockname()
        async with listening, ws.connect(f"wss://{host}:{port}/", ssl=trusting) as client:
            said = [await client.recv() for _ in range(6)]
        assert said == [f"{kind} {number}" for number in range(3) for kind in ("ready", "usual")]

    play(scene(), loop)
