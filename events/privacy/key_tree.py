"""A tree of keys: one secret for any number of leaves, each of which can be forgotten alone. Pure.

A tree of keys after Goldreich, Goldwasser and Micali ("How to construct random functions", JACM 1986), sixty-four
branches wide: each node is the hash of its parent and its digit, so a leaf's key is derived from the root, and a node
reveals neither its parent nor its siblings. To forget a leaf, the root is replaced by the siblings along the leaf's
path: every other leaf can still be derived, that one never again (a *puncturable* pseudo-random function).

The tree takes 32 bytes while nothing is forgotten, and at most 504 nodes (19 kB) more for each forgotten leaf.
"""

from __future__ import annotations

import binascii
import os
from hashlib import blake2b, blake2s
from typing import Final, TypeAlias

DEPTH: Final = 8  # digits of base64: 2**48 leaves. Paths are keyed hashes, so nobody can choose a name that collides
NODE: Final = 32

# Path of a node (base64, empty for the root) -> its secret.
Nodes: TypeAlias = dict[bytes, bytes]

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DIGITS: Final = {digit: bytes([digit]) for digit in _ALPHABET}


def new_tree() -> Nodes:
    """A new tree, which is only a random root."""
    return {b"": os.urandom(NODE)}


def path(name: str, secret: bytes) -> bytes:
    """The path of a name's leaf. `secret` (at most 64 bytes) never changes for the names of one tree."""
    location = blake2b(name.encode(), digest_size=DEPTH * 6 // 8, key=secret, person=b"keytree").digest()
    return binascii.b2a_base64(location, newline=False)


def leaf(nodes: Nodes, at: bytes) -> bytes | None:
    """The key of the leaf at this path, 32 bytes; None when it was forgotten."""
    for length in range(DEPTH + 1):
        node = nodes.get(at[:length])
        if node is not None:
            for digit in at[length:]:  # `_child` inlined: this runs for each submission
                node = blake2s(node + _DIGITS[digit]).digest()
            return node
    return None


def forget(nodes: Nodes, at: bytes) -> Nodes:
    """The tree without the leaf at this path; the same tree when it was forgotten already."""
    rest = dict(nodes)
    for length in range(DEPTH + 1):
        node = rest.pop(at[:length], None)
        if node is not None:
            for level in range(length, DEPTH):
                siblings = {at[:level] + digit: _child(node, digit) for digit in _DIGITS.values()}
                node = siblings.pop(at[: level + 1])
                rest |= siblings
            return rest
    return nodes


def _child(node: bytes, digit: bytes) -> bytes:
    return blake2s(node + digit).digest()


def pack(nodes: Nodes) -> bytes:
    """The tree as bytes: for each node the length of its path, the path, the secret."""
    return b"".join(bytes([len(at)]) + at + node for at, node in sorted(nodes.items()))


def unpack(packed: bytes) -> Nodes:
    """The inverse of `pack`."""
    nodes: Nodes = {}
    start = 0
    while start < len(packed):
        begin = start + 1
        end = begin + packed[start]
        nodes[packed[begin:end]] = packed[end : end + NODE]
        start = end + NODE
    return nodes
