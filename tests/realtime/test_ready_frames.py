"""Frames that are made once: the very bytes a WebSocket library makes, in order with everything else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from realtime import auth, conf, frames, ready_frames, sockets
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, play

SOMEBODY = auth.Identity(principal=None, person="1", name="Ada", again=lambda: None)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_ready_frame_is_what_the_library_would_have_made(size: int) -> None:
    text = ("é" + "x" * size)[:size]
    assert ready_frames.text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


def test_our_server_takes_ready_frames_and_any_other_server_does_not(
    server: Server, writer: Writer, session: str
) -> None:
    async def scene() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            (socket,) = server.hub.sockets.values()
            assert socket._write is not None
            position = await writer.rename(harness.new_user(), "é" * 40_000)
            event = await harness.next_of(items, frames.EventFrame)
            assert (event.position, event.data) == (position, {"first_name": "é" * 40_000})

    play(scene())
    assert ready_frames.writer({"type": "websocket"}) is None
    assert ready_frames.writer({"extensions": {"websocket.http.response": {}}}) is None


class Line:
    """The far side of a socket: suspends sends while it is `full`, as a server does whose client does not read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.room = asyncio.Event()

    async def send(self, message: Any) -> None:
        await self.room.wait()
        self.texts.append(message.get("text", message["type"]))

    def write(self, frame: bytes) -> bool:
        """Our server's shortcut, which is closed while sends wait."""
        if self.room.is_set():
            self.texts.append(frame[2:].decode())
        return self.room.is_set()


@pytest.mark.parametrize("quick", [True, False])
def test_an_event_never_overtakes_an_answer_that_still_waits_for_its_reader(quick: bool) -> None:
    async def scene() -> None:
        line = Line()
        socket = sockets.Socket("1", SOMEBODY, "", line.send, conf.Limits(), line.write if quick else None)
        socket.tell_text("answer")
        assert not socket.push(sockets.Packet(1, "event"))  # no room for another one
        assert socket.stuck
        line.room.set()
        await socket.wait_for_room()
        assert socket.push(sockets.Packet(2, "next"))
        assert line.texts == ["answer", "event", "next"]

    play(scene())


def test_a_send_that_fails_ends_the_socket_and_only_a_lost_client_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(error: Exception) -> bool:
        async def send(_message: Any) -> None:
            raise error

        socket = sockets.Socket("1", SOMEBODY, "", send, conf.Limits())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as socket.listening:
                socket.tell_text("anything")
                await asyncio.Event().wait()  # the client says nothing more
        return socket.open

    assert play(scene(ConnectionResetError())) is False
    assert not caplog.records
    assert play(scene(RuntimeError("a server's bug"))) is False
    assert "a send failed" in caplog.text
