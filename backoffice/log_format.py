"""Formats of the process log: a line of text or a JSON object for each record (`LOG_FORMAT`).

Each record names the time (UTC), the level, the logger, and where they are known the request, who acts, the stream and
the position. Messages contain no personal data: mail addresses and the values that PostgreSQL quotes are removed from
them and from tracebacks.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from events import context

# Of the context of the event store, or given with `extra`; in this order.
CONTEXT: Final = ("request_id", "actor", "stream", "position")
# Of the access log (`backoffice.access_log`).
ACCESS: Final = ("method", "path", "status", "ms")

# Begins only where such a text does: otherwise each character of a long word would be tried as the beginning.
EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]++@[\w-]++(?:\.[\w-]++)++")
# Lines with which PostgreSQL explains an error; they quote values and statements.
QUOTED: Final = re.compile(r"^(?:DETAIL|CONTEXT|QUERY|STATEMENT|LINE \d++):.*+\n?(?: *+\^ *+\n?)?", re.MULTILINE)
# Characters that would begin a line of their own, or change what a terminal shows.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class AddContext(logging.Filter):
    """Adds what the event store knows about the current request to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        acting, written = context.current(), context.last_written()
        known = {
            "request_id": str(acting.correlation_id) if acting.correlation_id else None,
            "actor": acting.actor if acting.correlation_id or acting.actor != context.SYSTEM else None,
            "stream": written.stream if written else None,
            "position": written.position if written else None,
        }
        for name, value in known.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class TextFormatter(logging.Formatter):
    """``2026-11-29T19:20:01.123Z WARNING events.tasks: message [request_id=… actor=staff:7]``, then a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_escaped(str(value))}" for name, value in _fields(record, CONTEXT).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {_escaped(scrub(record.getMessage()))}"
        error = _traceback(self, record)
        return f"{line}{f' [{fields}]' if fields else ''}{f'{chr(10)}{error}' if error else ''}"


class JsonFormatter(logging.Formatter):
    """One JSON object in a line: time, level, logger, message, the fields of `CONTEXT` and `ACCESS`, and `error`."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": scrub(record.getMessage()),
            **_fields(record, (*CONTEXT, *ACCESS)),
        }
        if error := _traceback(self, record):
            kind = record.exc_info[0] if record.exc_info else None
            shown |= {"error": kind.__name__ if kind else None, "traceback": error}
        return json.dumps(shown, default=str)


def scrub(text: str) -> str:
    """Returns the text without mail addresses and without the values that PostgreSQL quotes."""
    return EMAIL.sub("<email>", QUOTED.sub("", text)).strip()


def _fields(record: logging.LogRecord, names: tuple[str, ...]) -> Mapping[str, Any]:
    return {name: value for name in names if (value := getattr(record, name, None)) is not None}


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    parts += [formatter.formatStack(record.stack_info)] if record.stack_info else []
    return scrub("\n".join(parts))


def _escaped(text: str) -> str:
    """Without control characters, so that a value cannot write a line of its own."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
