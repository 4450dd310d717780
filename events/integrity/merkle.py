"""Merkle trees as in RFC 6962 §2.1 (RFC 9162 §2.1); leaf and node hashes use different prefixes.

    leaf = sha256(0x00 || entry)      node = sha256(0x01 || left || right)      root of nothing = sha256("")

A tree of n > 1 leaves has the largest power of two below n on its left. Standard library only, so that a proof can be
checked with this file alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The root of leaves added one by one; keeps only the roots of the perfect trees so far."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self._peaks: list[bytes] = []
        self.size = 0
        for leaf in leaves:
            self.add(leaf)

    def add(self, leaf: bytes) -> None:
        node, size = leaf, self.size
        while size & 1:  # each trailing one bit is a perfect tree that this leaf completes to one twice as large
            node = node_hash(self._peaks.pop(), node)
            size >>= 1
        self._peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        node = self._peaks[-1]
        for left in reversed(self._peaks[:-1]):
            node = node_hash(left, node)
        return node


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of one leaf: the siblings on the way up, lowest first. Raises `IndexError`."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    siblings: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if index < middle:
            siblings.append(Tree(leaves[middle:high]).root())
            high = middle
        else:
            siblings.append(Tree(leaves[low:middle]).root())
            low = middle
    return siblings[::-1]


def root_of_path(leaf: bytes, index: int, size: int, siblings: Sequence[bytes]) -> bytes | None:
    """The root computed from a leaf and its audit path; None when the path does not fit the tree's size.

    RFC 9162 §2.1.3.2.
    """
    if not 0 <= index < size:
        return None
    node, last = leaf, size - 1
    for sibling in siblings:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while index and not index & 1:  # the last node of an odd level moves up unpaired
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None
