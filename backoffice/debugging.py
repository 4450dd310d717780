"""Django's page for a server error in development, without a database connection left behind."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.views import debug


class ExceptionReporter(debug.ExceptionReporter):
    """Gives back the connections that showing the error opened.

    Under ASGI the page is made in a thread of its own, which no request ends: a variable that runs a query when it is
    shown (a queryset) would keep a connection of the pool for ever.
    """

    def get_traceback_data(self) -> Any:
        try:
            return super().get_traceback_data()
        finally:
            _give_back()


def _give_back() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
