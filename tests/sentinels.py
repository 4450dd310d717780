"""Valkey with a replica and three Sentinels, which agree on a new primary when the first one is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import redis

from devtools import processes, services
from devtools.valkey import Valkey

NAME = "fe"
PASSWORD = "of-the-sentinels"


class Sentinel(services.Service):
    """One Sentinel of the primary at a port. It keeps its state in its configuration file."""

    name = "sentinel"

    def __init__(self, folder: Path, primary: Valkey) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.port = processes.free_port()
        self.program = primary.program
        self.configuration = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{folder}"',
            f"requirepass {PASSWORD}",
            f"sentinel sentinel-pass {PASSWORD}",
            f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 2",
            f"sentinel auth-pass {NAME} {primary.password}",
            f"sentinel down-after-milliseconds {NAME} 300",
            f"sentinel failover-timeout {NAME} 2000",
        ]

    def start(self) -> None:
        file = self.folder / "sentinel.conf"
        file.write_text("\n".join(self.configuration) + "\n")
        self._spawn([str(self.program), str(file), "--sentinel"])
        self._wait_for_start(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


class Group:
    """The servers: `primary` at the start, `replica`, and the address of their Sentinels."""

    def __init__(self, primary: Valkey, replica: Valkey, sentinels: list[Sentinel]) -> None:
        self.primary, self.replica, self.sentinels = primary, replica, sentinels
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
        self.address = f"sentinel://:{primary.password}@{hosts}/{NAME}/0?sentinel_password={PASSWORD}"

    def ready(self) -> bool:
        """Whether every Sentinel knows the replica and the other Sentinels."""
        return all(_knows_the_others(one) for one in self.sentinels)


def _knows_the_others(one: Sentinel) -> bool:
    with redis.Redis(port=one.port, password=PASSWORD) as client:
        state = client.sentinel_master(NAME)
    return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 and state["flags"] == "master"


@contextlib.contextmanager
def group() -> Iterator[Group]:
    folder = Path(os.environ["DATA_DIR"]) / "sentinels"
    folder.mkdir()
    with contextlib.ExitStack() as running:
        running.callback(shutil.rmtree, folder)
        primary = _started(running, Valkey(_made(folder / "primary"), durable=False))
        follow = [f"replicaof 127.0.0.1 {primary.port}", f"masterauth {primary.password}", "repl-diskless-sync-delay 0"]
        second = Valkey(_made(folder / "replica"), durable=False, settings=follow)
        second.password = primary.password
        replica = _started(running, second)
        found = Group(primary, replica, [_sentinel(running, folder / f"sentinel-{n}", primary) for n in range(3)])
        assert processes.wait_until(found.ready, 30)
        yield found


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _started(running: contextlib.ExitStack, server: Valkey) -> Valkey:
    running.callback(server.stop)
    server.start()
    return server


def _sentinel(running: contextlib.ExitStack, folder: Path, primary: Valkey) -> Sentinel:
    one = Sentinel(folder, primary)
    running.callback(one.stop)
    one.start()
    return one
