"""A server error in development keeps no database connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient
from django.urls import path

from backoffice.models import Staff


def fails(_request: HttpRequest) -> HttpResponse:
    everybody = Staff.objects.all()  # shown on the error page, which runs the query
    raise ValueError(f"cannot show {everybody.query}")


urlpatterns = [path("fails/", fails)]


def sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_stat_activity where datname = current_database()")
        found: int = cursor.fetchone()[0]
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls(__name__)
def test_server_error_in_debug_mode_closes_its_connection(settings: Any) -> None:
    settings.DEBUG = True

    async def ask() -> int:
        answer = await AsyncClient(raise_request_exception=False).get("/fails/")
        return answer.status_code

    before = used()
    for _ in range(5):
        assert asyncio.run(ask()) == 500
    assert used() <= before


def used() -> int:
    """Returns the number of connections that are out of the pool, or open without a pool."""
    pool = connection.pool
    if pool is None:
        return sessions()
    stats = pool.get_stats()
    return int(stats["pool_size"] - stats["pool_available"])
