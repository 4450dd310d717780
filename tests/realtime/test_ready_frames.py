"""Ready frames: the same bytes as those of a WebSocket library, in order with all other frames."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from realtime import auth, conf, frames, ready_frames, sockets
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario

SOMEBODY = auth.Identity(principal=None, person="1", name="Ada", again=lambda: None)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_ready_frame_equals_the_frame_of_the_websockets_library(size: int) -> None:
    text = ("é" + "x" * size)[:size]
    assert ready_frames.text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


def test_our_server_writes_ready_frames_and_other_servers_do_not_offer_it(
    server: Server, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            (socket,) = server.hub.sockets.values()
            assert socket._write is not None
            position = await writer.rename(harness.new_user(), "é" * 40_000)
            event = await harness.next_of(items, frames.EventFrame)
            assert (event.position, event.data) == (position, {"first_name": "é" * 40_000})

    run_scenario(scenario())
    assert ready_frames.writer({"type": "websocket"}) is None
    assert ready_frames.writer({"extensions": {"websocket.http.response": {}}}) is None


class FakeServer:
    """The ASGI server of a socket: suspends sends until `reading` is set, as for a client that does not read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reading = asyncio.Event()

    async def send(self, message: Any) -> None:
        await self.reading.wait()
        self.texts.append(message.get("text", message["type"]))

    def write(self, frame: bytes) -> bool:
        """The write function of the extension, which refuses while sends are suspended."""
        if self.reading.is_set():
            self.texts.append(frame[2:].decode())
        return self.reading.is_set()


@pytest.mark.parametrize("ready", [True, False])
def test_event_never_overtakes_an_answer_whose_send_is_suspended(ready: bool) -> None:
    async def scenario() -> None:
        server = FakeServer()
        socket = sockets.Socket("1", SOMEBODY, "", server.send, conf.Limits(), server.write if ready else None)
        socket.send_text("answer")
        assert not socket.send_event(ready_frames.EncodedFrame(1, "event"))  # no further event for now
        assert socket.send_pending
        server.reading.set()
        await socket.wait_until_sendable()
        assert socket.send_event(ready_frames.EncodedFrame(2, "next"))
        assert server.texts == ["answer", "event", "next"]

    run_scenario(scenario())


def test_failed_send_closes_the_socket_and_is_logged_unless_the_client_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(error: Exception) -> bool:
        async def send(_message: Any) -> None:
            raise error

        socket = sockets.Socket("1", SOMEBODY, "", send, conf.Limits())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as socket.receive_timeout:
                socket.send_text("anything")
                await asyncio.Event().wait()  # the client sends nothing more
        return socket.open

    assert run_scenario(scenario(ConnectionResetError())) is False
    assert not caplog.records
    assert run_scenario(scenario(RuntimeError("a server's bug"))) is False
    assert "a send failed" in caplog.text
