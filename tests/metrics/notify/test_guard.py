"""Requests to URLs that people enter reach neither the server's own network nor a second host."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from metrics.monitoring.notify.channels import guard
from tests.metrics.notify import receivers
from tests.metrics.notify.receivers import Reply

PRIVATE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.1.2.3",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "::",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "64:ff9b:1::a00:1",
    "64:ff9b::a00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
]
NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "64:ff9b::a9fe:a9fe",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "2002:7f00:1::",
    "2002:0808:0808::1",
    "2001:0:53aa:64c:0:fffe:5601:5601",
    "::169.254.169.254",
    "::8.8.8.8",
    "2001:4860::5efe:a9fe:a9fe",
    "2001:4860::200:5efe:808:808",
    "224.0.0.1",
    "239.255.255.250",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE + NEVER)
def test_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(guard.Refused):
        guard.check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed_with_tls_only(address: str) -> None:
    guard.check(address)
    with pytest.raises(guard.Refused):
        guard.check(address, plain=True)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_tunnels_and_multicast_are_refused_whatever_is_allowed(address: str, settings: Any) -> None:
    settings.ALERT_ALLOWED_NETWORKS = ["0.0.0.0/0", "::/0"]
    with pytest.raises(guard.Refused):
        guard.check(address)


def test_allowed_networks_open_private_addresses_and_denied_ones_close_any(settings: Any) -> None:
    settings.ALERT_ALLOWED_NETWORKS = ["10.1.0.0/16", "::1/128"]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "::1"):
        guard.check(address)
        guard.check(address, plain=True)
    with pytest.raises(guard.Refused):
        guard.check("10.2.0.1")
    settings.ALERT_DENIED_NETWORKS = ["10.1.2.0/24", "8.8.8.0/24"]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "8.8.8.8", "64:ff9b::808:808"):
        with pytest.raises(guard.Refused):
            guard.check(address)
    guard.check("10.1.3.1")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/x",
        "ftp://hooks.example.org/x",
        "file:///etc/passwd",
        "gopher://x/",
        "https://",
        "https:///path",
        "//hooks.example.org/x",
        "https://user:secret@hooks.example.org/",
        "https://user@hooks.example.org/",
        "https://hooks.example.org:99999/",
        "https://hooks.example.org:0/",
        "https://hooks.example.org:port/",
        "https://hooks.example.org/a b",
        "https://hooks.example.org/\r\nX: y",
        "https://hooks.example.org\\@127.0.0.1/",
        "https://hooks.exämple.org/",
        "https://[::1/",
        f"https://hooks.example.org/{'x' * 2000}",
        "",
    ],
)
def test_url_that_may_not_be_requested_is_refused(url: str) -> None:
    with pytest.raises(guard.Refused):
        guard.parsed(url)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]", "[::]"])
def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    """The resolver accepts more spellings than any list contains, so the address it returns is checked."""
    with pytest.raises((guard.Refused, guard.Unreachable)):
        guard.request("POST", f"https://{host}/", b"", {})


def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    with pytest.raises(guard.Refused):
        guard.request("POST", "https://x.example.org/", b"", {}, resolver=lambda *_: ["8.8.8.8", "10.0.0.1"])


def test_name_is_resolved_once_so_that_rebinding_changes_nothing(settings: Any) -> None:
    """A resolver that an attacker controls would return another address when asked again, so it is asked once."""
    settings.ALERT_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    asked: list[str] = []

    def resolver(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    with receivers.http() as receiver:
        url = f"http://rebind.example.org:{receiver.server.server_port}/"
        assert guard.request("POST", url, b"x", {}, resolver=resolver).status == 200
        assert asked == ["rebind.example.org"]
        assert receiver.requests[0].headers["host"] == f"rebind.example.org:{receiver.server.server_port}"
        with pytest.raises(guard.Refused):
            guard.request("POST", url, b"x", {}, resolver=resolver)
        assert len(receiver.requests) == 1


def test_redirect_to_the_inside_is_not_followed(settings: Any) -> None:
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    with receivers.http() as inside, receivers.http() as outside:
        outside.replies = [Reply(307, {"Location": inside.url})]
        answer = guard.deliver("POST", outside.url, b"x", {})
        assert (answer.outcome, answer.detail) == ("failed", "HTTP 307")
        assert inside.requests == []


def test_proxy_of_the_environment_is_not_used(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    with receivers.http() as proxy, receivers.http() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert guard.deliver("POST", receiver.url, b"x", {}).outcome == "delivered"
        assert (len(receiver.requests), proxy.requests) == (1, [])


# -- TLS and time -----------------------------------------------------------------------------------------------------


def test_certificate_must_be_valid_for_the_name(settings: Any, tmp_path: Path) -> None:
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    authority, certificate = receivers.certificates(tmp_path, "localhost")
    with receivers.http(certificate, "localhost") as receiver:
        answer = guard.deliver("POST", receiver.url, b"x", {})
        assert (answer.outcome, answer.detail) == ("failed", "the certificate is not valid"), "an unknown authority"
        settings.ALERT_CA_FILE = authority
        assert guard.deliver("POST", receiver.url, b"x", {}).outcome == "delivered"
        wrong = receiver.url.replace("localhost", "127.0.0.1")
        assert guard.deliver("POST", wrong, b"x", {}).detail == "the certificate is not valid"
    assert len(receiver.requests) == 1


def test_receiver_that_sends_a_byte_now_and_then_is_cut_off(settings: Any) -> None:
    """Each byte would restart the timeout of the socket, and block the sender for ever."""
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    pause, ended = threading.Event(), threading.Event()

    def drip() -> None:
        connection, _address = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            with contextlib.suppress(OSError):
                while not pause.wait(0.02):
                    connection.sendall(b"x")
        ended.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(TimeoutError):
            guard.request("POST", url, b"x", {}, seconds=0.3)
        assert ended.wait(10), "the connection was closed"
    with receivers.http() as receiver:
        release = threading.Event()
        receiver.replies = [Reply(wait=release)]
        with pytest.raises(TimeoutError):
            guard.request("POST", receiver.url, b"x", {}, seconds=0.2)
        release.set()


def test_closed_port_and_unknown_host_mean_that_nothing_was_sent(settings: Any) -> None:
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    with receivers.http() as receiver:
        pass
    assert guard.deliver("POST", receiver.url, b"x", {}).outcome == "failed"
    answer = guard.deliver("POST", "https://host.invalid/", b"x", {})
    assert (answer.outcome, answer.detail) == ("failed", "the host name cannot be resolved")


def test_connection_that_breaks_means_that_the_message_may_have_arrived(settings: Any) -> None:
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    with receivers.http() as receiver:
        receiver.replies = [Reply(hang_up=True)]
        assert guard.deliver("POST", receiver.url, b"x", {}).outcome == "unknown"
