"""deploy/nginx.conf and deploy/Caddyfile as they are shipped, while the web processes behind them are replaced.

No request fails and no socket loses or repeats an event: not when a process is stopped, as a deploy does, and not when
one is killed. `NGINX` and `CADDY` name other programs than those that are found.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils.crypto import get_random_string

from devtools import processes
from realtime import client, frames
from tests import live, services_plugin
from tests.realtime import harness

pytestmark = pytest.mark.services

DEPLOY = live.PROJECT / "deploy"
SOCKETS = 100
SECONDS = 60.0


def program(name: str) -> str | None:
    """The path of a proxy; Caddy is part of the extra `test`."""
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    return os.environ.get(name.upper()) or shutil.which(name, path=places)


def available() -> list[str]:
    """The proxies that are installed; with REQUIRE_PROXIES=1 both must be."""
    found = [name for name in ("caddy", "nginx") if program(name)]
    if os.environ.get("REQUIRE_PROXIES") == "1":
        assert found == ["caddy", "nginx"], "a proxy is missing"
    return found


class Site(live.Stack):
    """Two web processes, and both proxies in front of them."""

    def __init__(self, name: str, template: str) -> None:
        super().__init__(name, template)
        self.folder = Path(os.environ["DATA_DIR"]) / "proxied"
        self.folder.mkdir(exist_ok=True)
        self.ports = {"web": self.port, "web2": processes.free_port()}
        self.proxies = {name: processes.free_port() for name in available()}

    def restart_stopped(self) -> None:
        self.env |= {
            "DJANGO_SETTINGS_MODULE": "tests.deployment.proxied_settings",
            "ALLOWED_ORIGINS": ",".join(f"http://127.0.0.1:{port}" for port in self.proxies.values()),
            "TRUSTED_PROXIES": "1",
            "SHUTDOWN_DELAY": "1",
            "API_RATE_PER_MINUTE": "0",
            "ACCESS_LOG": "1",
        }
        super().restart_stopped()
        for name in ("web2", *self.proxies):
            if not self.running(name):
                self.start_process(name)

    def start_web(self) -> None:
        self.start_process("web")

    def start_process(self, name: str) -> None:
        """Start a web process or a proxy, and wait until it accepts requests."""
        if name in self.ports:
            self._spawn(name, ["-m", "realtime.server", "--host", "127.0.0.1", "--port", str(self.ports[name])])
            port, path = self.ports[name], "/readyz"
        else:
            self._start_proxy(name)
            port, path = self.proxies[name], "/livez"
        if not processes.wait_until(lambda: not self.running(name) or answers(port, path), SECONDS):
            raise RuntimeError(f"{name} did not get ready:\n{self.log(name)}")
        if not self.running(name):
            raise RuntimeError(f"{name} ended:\n{self.log(name)}")

    def _start_proxy(self, name: str) -> None:
        command = self._nginx() if name == "nginx" else self._caddy()
        environment = os.environ | {
            "SITE_ADDRESS": f"http://127.0.0.1:{self.proxies[name]}",
            "WEB_ADDRESS": " ".join(f"127.0.0.1:{port}" for port in self.ports.values()),
            "CADDY_ADMIN": f"127.0.0.1:{processes.free_port()}",
            "XDG_DATA_HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                processes.child_command(command, orphan_signal=signal.SIGKILL),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _caddy(self) -> list[str]:
        return [str(program("caddy")), "run", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"]

    def _nginx(self) -> list[str]:
        """Its file as it is, but for the addresses and the certificate, in a folder of the test."""
        text = (DEPLOY / "nginx.conf").read_text()
        text = re.sub(r"\n    ssl_certificate.*", "", text)
        text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{self.proxies['nginx']};")
        text = text.replace("listen 80;", f"listen 127.0.0.1:{processes.free_port()};")
        for shipped, ours in zip(("127.0.0.1:8001", "127.0.0.1:8002"), self.ports.values(), strict=True):
            assert shipped in text
            text = text.replace(shipped, f"127.0.0.1:{ours}")
        (self.folder / "site.conf").write_text(text)
        places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{place}_temp_path {self.folder}/{place};" for place in places)
        main = self.folder / "nginx.conf"
        main.write_text(
            f"daemon off; master_process off; pid {self.folder}/nginx.pid; error_log stderr warn;"
            f"events {{}} http {{ access_log off; {temporary} include {self.folder}/site.conf; }}"
        )
        return [str(program("nginx")), "-c", str(main), "-p", str(self.folder), "-e", "stderr"]

    def stop(self) -> None:
        for name in ("web2", *self.proxies):
            if self.running(name):
                self.kill_process(name)
        super().stop()


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.fixture
def site(template: str) -> Iterator[Site]:
    if not available():
        pytest.skip("neither Caddy nor nginx is installed")
    made = Site(f"proxied_{services_plugin.worker()}", template)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Visitor(threading.Thread):
    """Sends one request after the other on one connection; `failures` are answers other than 200, and errors."""

    def __init__(self, port: int, headers: dict[str, str], user: str | None = None) -> None:
        super().__init__(daemon=True)
        self.port, self.headers, self.user = port, headers, user
        self.count, self.failures = 0, list[str]()
        self._ending = threading.Event()
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        while not self._ending.wait(0.01):
            try:
                connection.request(*self._request())
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {body[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.count += 1
        connection.close()

    def _request(self) -> tuple[str, str, bytes | None, dict[str, str]]:
        if self.user is None:
            return "GET", "/api/v1/users/?limit=1", None, self.headers
        return command("user.update", self.user, self.headers, first_name=uuid.uuid4().hex)

    def end(self) -> None:
        self._ending.set()
        self.join(SECONDS)


class Watcher:
    """A socket through a proxy, with the positions it received."""

    def __init__(self, port: int, session: str, start: frames.Since) -> None:
        origin = f"http://127.0.0.1:{port}"
        self.live = client.Client(f"ws://127.0.0.1:{port}/ws/admin/", cookie=harness.cookie(session), origin=origin)
        self.start = start
        self.positions: list[int] = []
        self.resets: list[frames.Reset] = []

    async def watch(self) -> None:
        async with self.live:
            await self.live.follow("users", since=self.start)
            async for item in self.live:
                if isinstance(item, frames.EventFrame):
                    self.positions.append(item.position)
                elif isinstance(item, frames.Reset):
                    self.resets.append(item)


def test_replaced_web_processes_fail_no_request_and_lose_no_event(site: Site) -> None:
    """1 stop one process and start it  2 kill the other  3 stop the rest, which only Caddy bridges  4 compare."""
    session, token = site.session("admin"), get_random_string(32)
    cookies = f"{settings.SESSION_COOKIE_NAME}={session}; {settings.CSRF_COOKIE_NAME}={token}"
    headers = {"Cookie": cookies, "X-CSRFToken": token}
    users = [create_user(site, headers) for _ in range(2)]
    ((epoch, position),) = site.query("select epoch::text, (select max(position) from events_event) from events_epoch")
    since = frames.Since(epoch, position)

    async def scenario() -> None:
        ports = list(site.proxies.values())
        watchers = [Watcher(ports[number % len(ports)], session, since) for number in range(SOCKETS)]
        watches = [asyncio.create_task(watcher.watch()) for watcher in watchers]
        await until(lambda: all(watcher.live.state == "live" for watcher in watchers))
        visitors = {
            name: [Visitor(port, headers), *(Visitor(port, headers, user) for user in users)]
            for name, port in site.proxies.items()
        }
        every = [one for some in visitors.values() for one in some]
        await progress(every)
        await asyncio.to_thread(site.stop_process, "web")  # 1
        await progress(every)
        await asyncio.to_thread(site.start_process, "web")
        await until(lambda: all(watcher.live.state == "live" for watcher in watchers))
        await progress(every)
        await asyncio.to_thread(site.kill_process, "web2")  # 2
        await progress(every)
        for one in visitors.get("nginx", ()):
            await asyncio.to_thread(one.end)
        await asyncio.to_thread(site.stop_process, "web")  # 3
        await asyncio.gather(*(asyncio.to_thread(site.start_process, name) for name in site.ports))
        await progress(visitors.get("caddy", []))
        for one in visitors.get("caddy", ()):
            await asyncio.to_thread(one.end)
        assert {name: [one.failures for one in some] for name, some in visitors.items()} == {  # 4
            name: [[]] * 3 for name in visitors
        }, "\n".join(site.log(name)[-2000:] for name in visitors)
        written = [row[0] for row in site.query(WRITTEN, position)]
        await until(lambda: all(watcher.positions[-1:] == written[-1:] for watcher in watchers))
        for watcher in watchers:
            assert watcher.positions == written
            assert watcher.resets == []
            assert watcher.live.connected > 1
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    harness.run_scenario(scenario())
    line = re.search(
        r"POST /api/v1/commands/ 200 [\d.]+ ms .*actor=staff:\d+ stream=user-\S+ position=\d+", site.log("web")
    )
    assert line, "the access log has who wrote what"
    if missing := {"caddy", "nginx"} - site.proxies.keys():
        pytest.skip(f"passed without {missing.pop()}: install nginx-light, or set NGINX to its path")


WRITTEN = "select position from events_event where stream like 'user-%%' and position > %s order by position"


def command(kind: str, key: str, headers: dict[str, str], **data: str) -> tuple[str, str, bytes, dict[str, str]]:
    body = {"id": str(uuid.uuid4()), "type": kind, "key": key, "data": data}
    return "POST", "/api/v1/commands/", json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}


def create_user(site: Site, headers: dict[str, str]) -> str:
    key = str(uuid.uuid4())
    connection = http.client.HTTPConnection("127.0.0.1", site.ports["web"], timeout=SECONDS)
    connection.request(*command("user.create", key, headers, email=f"{key}@example.org"))
    assert connection.getresponse().status == 200
    connection.close()
    return key


async def until(condition: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def progress(visitors: list[Visitor]) -> None:
    """Wait until each visitor has got a few more answers."""
    before = {visitor: visitor.count for visitor in visitors}
    await until(lambda: all(visitor.count >= count + 5 for visitor, count in before.items()))


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_proxy_hides_the_operators_addresses(name: str) -> None:
    text = (DEPLOY / {"nginx": "nginx.conf", "caddy": "Caddyfile"}[name]).read_text()
    assert re.search(r"/metrics\b", text)
    assert re.search(r"/readyz\b", text)
