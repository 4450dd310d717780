"""Signed webhooks by the Standard Webhooks specification (https://www.standardwebhooks.com).

One delivery is one request. ``webhook-id`` is the same at every attempt; the signature is an HMAC-SHA256 over
``id.timestamp.body`` under each signing key in use, so that a key can be changed without a gap.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime

import msgspec

from metrics.monitoring.notify import messages
from metrics.monitoring.notify.channels import guard
from metrics.monitoring.notify.queue import Answer, Batch
from metrics.monitoring.notify.secrets import ChannelSecret


def send(batch: Batch, secret: ChannelSecret) -> Answer:
    """Send the one delivery of the batch."""
    (delivery,) = batch.deliveries
    at = batch.channel.now
    body = msgspec.json.encode(messages.payload(delivery))
    headers = {
        "Content-Type": "application/json",
        "webhook-id": str(batch.message_id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature(secret.keys(at.timestamp()), str(batch.message_id), at, body),
    }
    return guard.deliver("POST", secret.url, body, headers)


def signature(keys: Sequence[bytes], message_id: str, at: datetime, body: bytes) -> str:
    """The header ``webhook-signature``: one signature for each key, the newest first."""
    signed = f"{message_id}.{int(at.timestamp())}.".encode() + body
    made = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return " ".join(f"v1,{one}" for one in made)
