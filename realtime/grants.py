"""Decides which of the requested topics a socket may follow, and with which view of their events."""

from __future__ import annotations

from collections.abc import Iterable

from realtime import auth, frames, sockets, topics


def decide(identity: auth.Identity, name: str) -> sockets.Grant | frames.Denied:
    """The grant for one topic name, or the reason why there is none."""
    found = topics.find(name)
    if found is None:
        return frames.Denied(name, "unknown")
    topic, key = found
    if not topic.allows(identity.principal, key):
        return frames.Denied(name, "forbidden")
    return sockets.Grant(topic, topic.projection_key(identity.principal))


def decide_all(
    socket: sockets.Socket, names: Iterable[str], limit: int
) -> tuple[dict[str, sockets.Grant], list[frames.Denied]]:
    """Sort names into granted and denied, so that the socket follows at most `limit` topics."""
    granted: dict[str, sockets.Grant] = {}
    denied: list[frames.Denied] = []
    followed = len(socket.grants)
    for name in dict.fromkeys(names):
        grant = decide(socket.identity, name)
        if isinstance(grant, frames.Denied):
            denied.append(grant)
        elif name not in socket.grants and followed >= limit:
            denied.append(frames.Denied(name, "limit"))
        else:
            followed += name not in socket.grants
            granted[name] = grant
    return granted, denied
