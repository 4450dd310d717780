"""Receivers of notifications in this process, on real sockets: HTTP, HTTPS with a test authority, SMTP."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import queue
import socketserver
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOCAL = ["127.0.0.0/8", "::1/128"]


class Received(NamedTuple):
    """A request that a receiver got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Reply(NamedTuple):
    """An answer to one request, sent once `wait` is set; `hang_up` closes the connection without an answer."""

    status: int = 200
    headers: dict[str, str] = {}
    wait: threading.Event | None = None
    hang_up: bool = False


class Receiver:
    """An HTTP server. Takes replies from `replies`, then answers 200; records every request."""

    def __init__(self, server: ThreadingHTTPServer, url: str) -> None:
        self.server, self.url = server, url
        self.requests: list[Received] = []
        self.arrived: queue.Queue[Received] = queue.Queue()
        self.replies: list[Reply] = []
        self.by_default = Reply()

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]


@contextlib.contextmanager
def http(certificate: Path | None = None, host: str = "127.0.0.1") -> Iterator[Receiver]:
    """A running receiver; with a certificate it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = Received(self.command, self.path, headers, self.rfile.read(length))
            receiver.requests.append(found)
            reply = receiver.replies.pop(0) if receiver.replies else receiver.by_default
            receiver.arrived.put(found)
            if reply.wait is not None:
                reply.wait.wait(30)
            if reply.hang_up:
                self.close_connection = True
                return
            with contextlib.suppress(OSError):  # the sender may have given up
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - names of the standard library

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Logs nothing, because clients that disconnect early are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    receiver = Receiver(server, f"{scheme}://{host}:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def certificates(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """Create a certificate authority and a certificate for `name` signed by it.

    Returns (file of the authority, file with certificate and key).
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    authority = (
        _builder(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    with contextlib.suppress(ValueError):
        names.append(x509.IPAddress(ipaddress.ip_address(name)))
    certificate = (
        _builder(subject, issuer, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = folder / "authority.pem", folder / "server.pem"
    files[0].write_bytes(authority.public_bytes(pem))
    files[1].write_bytes(certificate.public_bytes(pem) + private)
    return files


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


class Mailbox:
    """An SMTP server that keeps what it receives. `refuse` maps a command to the answer in place of success."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[Message] = []
        self.recipients: list[list[str]] = []
        self.refuse: dict[str, str] = {}


@contextlib.contextmanager
def smtp() -> Iterator[Mailbox]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipients: list[str] = []
            self.answer("220 test")
            while line := self.rfile.readline().decode().strip():
                command = line.split()[0].upper()
                if command in mailbox.refuse:
                    self.answer(mailbox.refuse[command])
                elif command == "RCPT":
                    recipients.append(line.partition("<")[2].partition(">")[0])
                    self.answer("250 ok")
                elif command == "DATA":
                    self.answer("354 go on")
                    mailbox.messages.append(message_from_bytes(b"".join(self.lines())))
                    mailbox.recipients.append(recipients)
                    self.answer(mailbox.refuse.get("END", "250 ok"))
                elif command == "QUIT":
                    self.answer("221 bye")
                    return
                else:
                    self.answer("250 ok")

        def lines(self) -> Iterator[bytes]:
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                yield line.removeprefix(b".") if line.startswith(b"..") else line

        def answer(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        mailbox = Mailbox(server.server_address[1])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield mailbox
        server.shutdown()


def replies(*statuses: int, **named: Any) -> list[Reply]:
    return [Reply(status, **named) for status in statuses]
