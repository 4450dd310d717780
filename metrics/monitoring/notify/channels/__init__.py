"""The kinds of channels: how a batch becomes a message and is sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from django.utils import translation

from metrics.monitoring.notify import secrets
from metrics.monitoring.notify.channels import chat, email, webhook
from metrics.monitoring.notify.queue import Answer, Batch
from metrics.monitoring.notify.secrets import ChannelSecret

log = logging.getLogger(__name__)

# Sends a batch; never raises for what the receiver does.
Send = Callable[[Batch, ChannelSecret], Answer]

SENDERS: Final[Mapping[str, Send]] = {
    "email": email.send,
    "webhook": webhook.send,
    "slack": chat.send_slack,
    "teams": chat.send_teams,
    "ntfy": chat.send_ntfy,
    "matrix": chat.send_matrix,
}


def send(batch: Batch) -> Answer:
    """Send a batch in the language of its channel. An unexpected error is named without its text."""
    try:
        secret = secrets.decrypted(batch.channel.id, batch.channel.secret)
        with translation.override(batch.channel.language):
            return SENDERS[batch.channel.kind](batch, secret)
    except secrets.Unreadable:
        return Answer(outcome="failed", detail="secret cannot be decrypted")
    except Exception as error:
        log.error("notification to %s: %s", batch.channel.name, type(error).__name__)
        return Answer(outcome="unknown", detail=f"internal error: {type(error).__name__}")
