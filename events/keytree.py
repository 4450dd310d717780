"""One secret for any number of leaves, of which each can be forgotten alone. Pure.

A tree of keys after Goldreich, Goldwasser and Micali ("How to construct random functions", JACM 1986), sixteen branches
wide: each node is the hash of its parent and its digit, so a leaf's key follows from the root, and nothing follows
upwards or sideways. To forget a leaf, the root gives way to the siblings along the leaf's path: every other leaf is
still derived as before, that one by nobody ever again (a *puncturable* pseudo-random function).

Kept are 32 bytes while nothing was forgotten, and at most 240 nodes (12 kB) more for each leaf that was.
"""

from __future__ import annotations

import hashlib
import os
from hashlib import blake2s
from typing import Final, TypeAlias

DEPTH: Final = 16  # hexadecimal digits: 2**64 leaves, so that two names of one tree never meet
NODE: Final = 32

# Path of a node (hexadecimal, empty for the root) -> its secret.
Nodes: TypeAlias = dict[str, bytes]

_DIGITS: Final = {digit: digit.encode() for digit in "0123456789abcdef"}


def plant() -> Nodes:
    """A new tree: nothing but its root."""
    return {"": os.urandom(NODE)}


def path(name: str) -> str:
    """Where a name's leaf is."""
    return hashlib.sha256(name.encode()).hexdigest()[:DEPTH]


def leaf(nodes: Nodes, at: str) -> bytes | None:
    """The key of the leaf at this path, 32 bytes; None when it was forgotten."""
    for length in range(DEPTH + 1):
        node = nodes.get(at[:length])
        if node is not None:
            for digit in at[length:]:  # `_child`, without the call: this is done for each submission
                node = blake2s(node + _DIGITS[digit]).digest()
            return node
    return None


def forget(nodes: Nodes, at: str) -> Nodes:
    """The tree without the leaf at this path; the same tree when it was forgotten before."""
    rest = dict(nodes)
    for length in range(DEPTH + 1):
        node = rest.pop(at[:length], None)
        if node is not None:
            for place in range(length, DEPTH):
                rest |= {at[:place] + digit: _child(node, digit) for digit in _DIGITS if digit != at[place]}
                node = _child(node, at[place])
            return rest
    return nodes


def _child(node: bytes, digit: str) -> bytes:
    return blake2s(node + _DIGITS[digit]).digest()


def pack(nodes: Nodes) -> bytes:
    """The tree as bytes: for each node the length of its path, the path, the secret."""
    return b"".join(bytes([len(at)]) + at.encode() + node for at, node in sorted(nodes.items()))


def unpack(packed: bytes) -> Nodes:
    nodes: Nodes = {}
    start = 0
    while start < len(packed):
        begin = start + 1
        end = begin + packed[start]
        nodes[packed[begin:end].decode()] = packed[end : end + NODE]
        start = end + NODE
    return nodes
