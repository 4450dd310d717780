"""The stack of the chaos test: two web processes, two subscription runners, a sampler, PostgreSQL, Valkey, a proxy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.chaos.alerts import Alerts
from devtools import processes, services
from devtools.postgres import Postgres
from devtools.valkey import Valkey

PROJECT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60.0


class TcpProxy:
    """A TCP proxy to Valkey. While `silent`, its connections stay open but never deliver another byte."""

    def __init__(self, target: int) -> None:
        self.target, self.port, self.silent = target, 0, False
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, there[1]), (there[0], writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        lost = False
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                lost = lost or self.silent
                if not lost:
                    sink.write(data)
        sink.close()


class Stack:
    """The processes and services, started by one thread that runs until the end.

    On Linux a process ends with the thread that started it. `previous` is the code of the release before: its schema is
    created first, its processes and two workers run, and then the schema of this release is applied beside them. A
    process that is spawned again runs this release.
    """

    def __init__(self, folder: Path, previous: Path | None = None) -> None:
        self.folder, self.previous = folder, previous
        self.postgres, self.valkey = Postgres(folder), Valkey(folder)
        self.ports = {name: processes.free_port() for name in ("web1", "web2")}
        self.urls = [f"ws://127.0.0.1:{port}/ws/admin/" for port in self.ports.values()]
        self.origin = f"http://127.0.0.1:{self.ports['web1']}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.alerts: Alerts  # set once the database is there
        self._executor = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    async def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    async def open(self) -> None:
        """Start services, create the schema, start the processes; also set up Django in this process."""
        await self.do(self.postgres.start)
        await self.do(self.valkey.start)
        self.proxy = TcpProxy(self.valkey.port)
        await self.proxy.open()
        os.environ |= {
            "DATABASE_URL": self.postgres.url(),
            "REDIS_URL": self.valkey.url(),
            "REDIS_PREFIX": "chaos",
            "DATA_DIR": str(self.folder),
            "DJANGO_SETTINGS_MODULE": "backoffice.settings",
            "ALLOWED_ORIGINS": self.origin,
            "ALERT_ALLOWED_NETWORKS": "127.0.0.0/8",
            "LOG_LEVEL": "WARNING",
            "DEBUG": "1",
        }
        names: tuple[str, ...] = ("web1", "web2", "relay1", "relay2", "sampler")
        if self.previous is None:
            await self.do(prepare)
        else:
            await self.do(self.migrate_previous, self.previous)
        if self.previous is not None:
            names += ("worker1", "worker2")
        for name in names:
            await self.do(self.spawn, name, self.previous or PROJECT)
        await self.do(self.await_webs)
        if self.previous is not None:
            await self.do(prepare)

    def migrate_previous(self, code: Path) -> None:
        subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity=0"], cwd=code, check=True)

    async def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        await self.proxy.close()
        await self.do(self.valkey.stop)
        await self.do(self.postgres.stop)
        self._executor.shutdown()

    def spawn(self, name: str, code: Path = PROJECT) -> None:
        environment = dict(os.environ)
        if name == "web2":  # it reaches Valkey through the proxy
            parts = urlsplit(environment["REDIS_URL"])
            environment["REDIS_URL"] = parts._replace(
                netloc=f"{parts.netloc.rsplit(':', 1)[0]}:{self.proxy.port}"
            ).geturl()
        program = ["manage.py", "run_subscriptions", "--lease", "3"]
        if name == "sampler":
            program = ["manage.py", "check_alerts", "--loop"]
        if name.startswith("worker"):
            program = ["-m", "celery", "-A", "backoffice", "worker", "-c", "1", "-n", f"{name}@%h", "--without-mingle"]
        if name in self.ports:
            program = ["-m", "realtime.server", "--port", str(self.ports[name]), "--log-level", "warning"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                processes.child_command([sys.executable, *program], orphan_signal=signal.SIGKILL),
                cwd=code,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def await_webs(self) -> None:
        def answers(port: int) -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        for name, port in self.ports.items():
            if not processes.wait_until(functools.partial(answers, port), READY_SECONDS):
                raise RuntimeError(f"{name} did not start:\n{self.log_of(name)}")

    def log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def signal_valkey(self, number: int) -> None:
        assert self.valkey.process is not None
        self.valkey.process.send_signal(number)

    def start_postgres(self) -> None:
        """Retry the start, because backends of the killed server may keep its shared memory for a moment."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                return self.postgres.start()
            except services.EmbeddedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def prepare() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
