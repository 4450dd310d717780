"""Three-way merge: what two people changed since a common base. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """How two concurrent changes of one field meet."""

    kind: str = "conflict"
