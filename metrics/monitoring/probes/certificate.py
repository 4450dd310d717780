"""Probe of the certificate of this site's own address, once an hour."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from metrics.monitoring.probes.readings import Readings, every

TIMEOUT: Final = 0.8


EXPIRED: Final = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED


@every(3600)
def read(_slot: int) -> Readings:
    """Days until the certificate of the first https address in ALLOWED_ORIGINS expires; missing without one."""
    address = next((urlsplit(origin) for origin in settings.ALLOWED_ORIGINS if origin.startswith("https://")), None)
    if address is None or address.hostname is None:
        return {}
    return {("tls.days_left", ""): days_left(address.hostname, address.port or 443)}


def days_left(host: str, port: int, secure: ssl.SSLContext | None = None) -> float:
    """Days until the certificate of a server expires, 0 when it has. Another problem raises `ssl.SSLError`."""
    secure = secure or ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT) as plain,
            secure.wrap_socket(plain, server_hostname=host) as connection,
        ):
            expires = (connection.getpeercert() or {})["notAfter"]
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == EXPIRED:
            return 0.0
        raise
    return max(0.0, (ssl.cert_time_to_seconds(str(expires)) - time.time()) / 86_400)
