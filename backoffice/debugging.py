"""Django's error page in development, without leaking database connections."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.views import debug


class ExceptionReporter(debug.ExceptionReporter):
    """Closes the connections that rendering the error page opened.

    Under ASGI the page is rendered in a separate thread, in which no request ends. A variable that runs a query when
    it is displayed (a queryset) would keep a connection of the pool for ever.
    """

    def get_traceback_data(self) -> Any:
        try:
            return super().get_traceback_data()
        finally:
            _close_connections()


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
