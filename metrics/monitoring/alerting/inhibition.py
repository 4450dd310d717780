"""The rules that mute others while they fire: a static, shallow table. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

# Rule -> the rules that it mutes: their cause is known then.
INHIBITS: Final[Mapping[str, frozenset[str]]] = {
    "valkey_unreachable": frozenset(
        {"queue_depth", "queue_age", "worker_age", "beat_age", "valkey_memory", "valkey_evictions"}
        | {"sockets_lag", "sockets_polling", "sockets_bad_closes"}
    ),
}


def inhibitors(rule: str, firing: Collection[str]) -> list[str]:
    """Returns those of the `firing` rules that mute `rule`."""
    return sorted(cause for cause in firing if rule in INHIBITS.get(cause, frozenset()))
