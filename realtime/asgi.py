"""The ASGI callables of a WebSocket connection, and a `send` that runs without a task until it first suspends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def text_message(text: str) -> Message:
    """The message that sends one text frame."""
    return {"type": "websocket.send", "text": text}


def start_send(send: Send, message: Message) -> ResumedSend | None:
    """Run `send` up to its first suspension. Returns None when it finished, else an awaitable for the rest."""
    steps = send(message).__await__()
    try:
        waiting_for = next(steps)
    except StopIteration:
        return None
    return ResumedSend(steps, waiting_for)


class ResumedSend:
    """Continues, inside a task, a send that `start_send` ran up to its first suspension."""

    def __init__(self, steps: Iterator[Any], waiting_for: Any) -> None:
        self._steps, self._waiting_for = steps, waiting_for

    def __await__(self) -> Generator[Any, Any, None]:
        waiting_for, failure = self._waiting_for, None
        while True:
            try:
                yield waiting_for
                failure = None
            except BaseException as error:
                failure = error
            try:
                waiting_for = next(self._steps) if failure is None else self._throw(failure)
            except StopIteration:
                return

    def _throw(self, failure: BaseException) -> Any:
        """Raise `failure` inside the coroutine; granian's awaitable has no `throw`, so there it is raised here."""
        if isinstance(self._steps, Generator) or hasattr(self._steps, "throw"):
            return self._steps.throw(failure)
        raise failure
