"""A second network: a Linux network namespace behind a link that can drop every packet."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
OWN, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"


class Network:
    """A namespace and its link. `here` is the address of this side, `there` that of servers started within `inside`."""

    def __init__(self, number: int) -> None:
        self.name, self._device = f"formease-{number}", f"fe{number}"
        block = number % 60_000
        self.here, self.there = (f"10.{200 + block // 16_000}.{block // 64 % 250}.{block % 64 * 4 + n}" for n in (1, 2))

    def open(self) -> None:
        ip("netns", "add", self.name)
        pair = ("type", "veth", "peer", "name", "peer", "address", OTHER, "netns", self.name)
        ip("link", "add", self._device, "address", OWN, *pair)
        ip("address", "add", f"{self.here}/30", "dev", self._device)
        ip("link", "set", self._device, "up")
        ip("-netns", self.name, "address", "add", f"{self.there}/30", "dev", "peer")
        ip("-netns", self.name, "link", "set", "lo", "up")
        self._connect()

    def _connect(self) -> None:
        """Set the link up. ARP entries are fixed: without answers to ARP, a host would count as unreachable at once."""
        ip("-netns", self.name, "link", "set", "peer", "up")
        ip("-netns", self.name, "neighbour", "replace", self.here, "lladdr", OWN, "dev", "peer")
        ip("neighbour", "replace", self.there, "lladdr", OTHER, "dev", self._device)

    def close(self) -> None:
        for command in (("netns", "delete", self.name), ("link", "delete", self._device)):
            with contextlib.suppress(OSError):  # it was not made, or went with the other
                ip(*command)

    def cut(self) -> None:
        """From now on packets are dropped in both directions: no connection is closed, none is refused."""
        ip("-netns", self.name, "link", "set", "peer", "down")

    def mend(self) -> None:
        """Deliver packets again."""
        self._connect()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Processes that this thread starts within this context are on the other side."""
        with Path("/proc/thread-self/ns/net").open() as own, Path("/run/netns", self.name).open() as other:
            enter(other.fileno())
            try:
                yield
            finally:
                enter(own.fileno())


def enter(namespace: int) -> None:
    """Move this thread into the network namespace of a file descriptor. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def ip(*arguments: str) -> None:
    """Run `ip` of iproute2. Raises `OSError` with its message."""
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network of its own; skips the test where this user may not create one."""
    found = Network(os.getpid())
    try:
        found.open()
    except OSError as error:  # no `ip`, not root, or a container without the capability
        found.close()
        pytest.skip(f"needs root and network namespaces: {error}")
    try:
        yield found
    finally:
        found.close()
