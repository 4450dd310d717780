"""Results of attempts to send: codes, which are stored, and their texts in the reader's language.

A stored answer is a code, or a code, a colon and one detail: ``http:503``. It never has content of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

TEXTS: Final[Mapping[str, str | Promise]] = {
    "http": "HTTP %(detail)s",
    "timeout": gettext_lazy("no answer in time"),
    "no_answer": gettext_lazy("no answer: %(detail)s"),
    "no_connection": gettext_lazy("no connection"),
    "unresolved": gettext_lazy("the host name cannot be resolved"),
    "certificate": gettext_lazy("the certificate is not valid"),
    "tls": gettext_lazy("TLS failed"),
    # refused URLs and addresses
    "url_characters": gettext_lazy("the URL is too long, or has characters that must be encoded"),
    "url_unreadable": gettext_lazy("the URL cannot be read"),
    "url_scheme": gettext_lazy("the URL must begin with https:// and name a host"),
    "url_plain": gettext_lazy("the URL must begin with https://"),
    "url_user": gettext_lazy("the URL must not contain a user name or password"),
    "url_port": gettext_lazy("the URL has no valid port"),
    "address_never": gettext_lazy("the host has an address that is never allowed"),
    "address_plain": gettext_lazy("without https only addresses in ALERT_ALLOWED_NETWORKS are allowed"),
    "address_private": gettext_lazy("the host has an address that is not public"),
    # e-mail
    "mail_accepted": gettext_lazy("accepted by the mail server"),
    "mail_unset": gettext_lazy("EMAIL_URL is not set"),
    "mail_recipients": gettext_lazy("recipients refused (%(detail)s)"),
    "mail_refused": gettext_lazy("refused (%(detail)s)"),
    "mail_no_connection": gettext_lazy("no connection: %(detail)s"),
    # this system
    "secret": gettext_lazy("the secret of the channel cannot be decrypted"),
    "internal": gettext_lazy("internal error: %(detail)s"),
}


def text(answer: str) -> str:
    """An answer in words. A text that an earlier release stored is returned unchanged."""
    code, _colon, detail = answer.partition(":")
    found = TEXTS.get(code)
    return answer if found is None else str(found) % {"detail": detail}
