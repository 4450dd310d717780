"""Frames that bypass the transport arrive complete and in order; under TLS no frame bypasses it."""

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


def run_scenario(scenario: Coroutine[Any, Any, None], loop: str) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


class Side(asyncio.Protocol):
    """The server's side of one connection, with its frame writer."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.made, self.lost = loop.create_future(), loop.create_future()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.writer = server.FrameWriter(transport, self.writable, plain=True)
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
def test_bytes_that_the_kernel_does_not_accept_wait_in_the_transport_in_order(loop: str) -> None:
    async def scenario() -> None:
        async with connected() as (side, reader, _):
            written = 0
            while side.writer.write(frame(written)):  # until the buffers are full
                written += 1
            assert side.transport.get_write_buffer_size() > 0
            assert not side.writer.write(frame(written)), "nothing is written while sends would wait"
            expected = b"".join(frame(number) for number in range(written))
            assert await reader.readexactly(len(expected)) == expected
            await side.writable.wait()
            assert side.writer.write(b"next")
            assert await reader.readexactly(4) == b"next"

    run_scenario(scenario(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_frames_stay_behind_bytes_written_through_the_transport(loop: str) -> None:
    async def scenario() -> None:
        async with connected() as (side, reader, _):
            for number in range(200):
                side.transport.write(b"a%07d" % number)
                assert side.writer.write(b"b%07d" % number)
            assert await reader.readexactly(3200) == b"".join(b"a%07db%07d" % (n, n) for n in range(200))

    run_scenario(scenario(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_writer_of_a_closing_transport_writes_nothing_and_of_a_lost_one_raises_nothing(loop: str) -> None:
    async def scenario() -> None:
        async with connected() as (side, reader, _):
            side.transport.close()
            assert not side.writer.write(b"late")
            assert await reader.read() == b""
            assert not side.writer.write(b"later")
        async with connected() as (side, _, writer):
            writer.transport.abort()
            while not side.lost.done():  # the client is gone: only the transport reports it
                side.writer.write(frame(0))
                await asyncio.sleep(0)
            assert not side.writer.write(b"late")

    run_scenario(scenario(), loop)


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, valid for an hour."""
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
def test_frames_under_tls_are_encrypted_by_the_transport(loop: str, tmp_path: Path) -> None:
    async def application(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        write = ready_frames.writer(scope)
        assert write is not None
        for number in range(3):
            assert write(ready_frames.text_frame(f"ready {number}"))
            await send({"type": "websocket.send", "text": f"sent {number}"})

    async def scenario() -> None:
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
            received = [await client.recv() for _ in range(6)]
        assert received == [f"{kind} {number}" for number in range(3) for kind in ("ready", "sent")]

    run_scenario(scenario(), loop)
