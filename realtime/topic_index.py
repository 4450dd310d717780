"""The index of a hub: the sockets that follow each topic name, and those of them that are live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from realtime import sockets

# Dictionaries instead of sets, because they keep the order in which sockets subscribed.
Index: TypeAlias = dict[str, dict[sockets.Socket, None]]


class TopicIndex:
    """Maps topic names to sockets. A followed name is in `live`, or in a `Behind` record of the socket."""

    def __init__(self) -> None:
        self.live: Index = {}
        self._followers: Index = {}

    def followers(self, topic: str) -> Iterable[sockets.Socket]:
        """Every socket that follows the topic, live or behind."""
        return self._followers.get(topic, ())

    def follow(self, socket: sockets.Socket, granted: Mapping[str, sockets.Grant]) -> None:
        """Grant topic names to a socket; they are neither live nor behind yet."""
        socket.grants.update(granted)
        for name in granted:
            self._followers.setdefault(name, {})[socket] = None

    def unfollow(self, socket: sockets.Socket, names: Iterable[str]) -> None:
        """Remove topic names from a socket, wherever they are."""
        for name in list(names):
            socket.grants.pop(name, None)
            socket.live.discard(name)
            _remove(self.live, name, socket)
            _remove(self._followers, name, socket)
            for behind in socket.behind:
                behind.names.discard(name)

    def make_live(self, socket: sockets.Socket, names: Iterable[str]) -> None:
        """Deliver these names from now on; the caller has just brought them up to the hub's position."""
        for name in names:
            socket.live.add(name)
            self.live.setdefault(name, {})[socket] = None

    def take_live(self, socket: sockets.Socket) -> set[str]:
        """Remove and return all live names of a socket."""
        names, socket.live = socket.live, set()
        for name in names:
            _remove(self.live, name, socket)
        return names


def _remove(index: Index, name: str, socket: sockets.Socket) -> None:
    followers = index.get(name)
    if followers is not None:
        followers.pop(socket, None)
        if not followers:
            del index[name]
