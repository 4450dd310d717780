"""E-mail. A mail program shows the messages of one episode as one conversation."""

from __future__ import annotations

import hashlib
import smtplib
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage, get_connection

from metrics.monitoring.notify import messages
from metrics.monitoring.notify.queue import Answer, Batch
from metrics.monitoring.notify.secrets import ChannelSecret

REFUSED: Final = (
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPSenderRefused,
    smtplib.SMTPDataError,
    smtplib.SMTPHeloError,
    smtplib.SMTPAuthenticationError,
    smtplib.SMTPNotSupportedError,
    smtplib.SMTPConnectError,
    ConnectionRefusedError,
)


def send(batch: Batch, _secret: ChannelSecret) -> Answer:
    """Send one e-mail to all recipients of the channel."""
    if not settings.EMAIL_URL:
        return Answer(outcome="failed", detail="EMAIL_URL is not set")
    text = messages.text(batch.deliveries)
    thread = _thread(batch)
    message = EmailMessage(
        subject=" ".join(text.subject.split()),
        body="\n".join([*text.lines, *(["", text.url] if text.url else []), ""]),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=list(batch.channel.recipients),
        headers={
            "Message-ID": f"<{batch.message_id}@{_domain()}>",
            "References": thread,
            "In-Reply-To": thread,
            "Auto-Submitted": "auto-generated",
        },
        connection=get_connection(timeout=settings.EMAIL_TIMEOUT),
    )
    try:
        message.send()
    except REFUSED as error:
        return Answer(outcome="failed", detail=_reason(error))
    except (OSError, smtplib.SMTPException) as error:
        return Answer(outcome="unknown", detail=f"no answer: {type(error).__name__}")
    return Answer(outcome="delivered", detail="accepted by the mail server")


def _reason(error: Exception) -> str:
    """The mail server's status without its text, which may quote addresses."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({str(code) for code, _text in error.recipients.values()})
        return f"recipients refused ({', '.join(codes)})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"refused ({error.smtp_code})"
    return f"no connection: {type(error).__name__}"


def _thread(batch: Batch) -> str:
    """The id of the mail conversation, from the episodes of the batch: the same for each message of one episode."""
    names = sorted({f"{one.alert}#{one.episode}" if one.alert else str(one.message_id) for one in batch.deliveries})
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
    return f"<episode-{digest}@{_domain()}>"


def _domain() -> str:
    return urlsplit(settings.SITE_URL).hostname or "formease.invalid"
