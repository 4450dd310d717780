"""Messages to chat services: Slack and Mattermost, Microsoft Teams, ntfy, Matrix."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from metrics.monitoring.notify import messages
from metrics.monitoring.notify.channels import guard
from metrics.monitoring.notify.messages import Text
from metrics.monitoring.notify.queue import Answer, Batch
from metrics.monitoring.notify.secrets import ChannelSecret


def send_slack(batch: Batch, secret: ChannelSecret) -> Answer:
    """Send to an incoming webhook of Slack or Mattermost: ``{"text": …}``."""
    text = messages.text(batch.deliveries)
    lines = [f"*{_escaped(text.subject)}*", *map(_escaped, text.lines)]
    if text.url:
        lines.append(text.url)
    return _post(batch, secret.url, {"text": "\n".join(lines)})


def _escaped(line: str) -> str:
    """Escape Slack's three control characters, so that a title cannot mention people or form a link."""
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def send_teams(batch: Batch, secret: ChannelSecret) -> Answer:
    """Send an adaptive card to the webhook of a Teams workflow."""
    text = messages.text(batch.deliveries)
    blocks: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": text.subject, "weight": "bolder", "size": "medium", "wrap": True},
        *({"type": "TextBlock", "text": line, "wrap": True} for line in text.lines),
    ]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    }
    if text.url:
        card["actions"] = [{"type": "Action.OpenUrl", "title": text.link, "url": text.url}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return _post(batch, secret.url, {"type": "message", "attachments": [attachment]})


def send_ntfy(batch: Batch, secret: ChannelSecret) -> Answer:
    """Publish to a topic of an ntfy server, as JSON. The topic is the last part of the URL."""
    text = messages.text(batch.deliveries)
    server, _, topic = secret.url.rstrip("/").rpartition("/")
    body: dict[str, Any] = {
        "topic": topic,
        "title": text.subject,
        "message": "\n".join(text.lines) or text.subject,
        "priority": 5 if text.urgent else 3,
        "tags": ["rotating_light" if text.urgent else "warning"],
    }
    if text.url:
        body["click"] = text.url
    return _post(batch, f"{server}/", body, token=secret.token)


def send_matrix(batch: Batch, secret: ChannelSecret) -> Answer:
    """Send to a Matrix room. The transaction id is the message's id, so the server drops repetitions."""
    text = messages.text(batch.deliveries)
    parts = urlsplit(secret.url)
    room, transaction = quote(secret.room, safe=""), quote(str(batch.message_id), safe="")
    url = f"{parts.scheme}://{parts.netloc}/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}"
    body = {"msgtype": "m.text", "body": _joined(text)}
    return _post(batch, url, body, method="PUT", token=secret.token)


def _joined(text: Text) -> str:
    return "\n".join(filter(None, [text.subject, *text.lines, text.url]))


def _post(batch: Batch, url: str, body: dict[str, Any], *, method: str = "POST", token: str = "") -> Answer:
    headers = {"Content-Type": "application/json", "webhook-id": str(batch.message_id)}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return guard.deliver(method, url, msgspec.json.encode(body), headers)
