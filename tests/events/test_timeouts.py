"""Time limits of statements that are sent together."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection, transaction

from backoffice import health
from events import errors
from events.db import timeouts

SHOW = "select current_setting('statement_timeout')"


def current() -> str:
    with connection.cursor() as cursor:
        cursor.execute(SHOW)
        return str(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_statements_sent_together_are_limited_and_leave_no_limit_behind() -> None:
    before = current()
    assert timeouts.rows_within(7, [(SHOW, ()), ("select %s::int", (3,))]) == [[("7s",)], [(3,)]]
    assert current() == before
    with transaction.atomic():
        assert timeouts.rows_within(7, [(SHOW, ())]) == [[("7s",)]]
        assert current() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_statement_that_takes_too_long_is_refused_and_the_connection_stays_usable(in_transaction: bool) -> None:
    before, slow = current(), [("select 1", ()), ("select pg_sleep(30)", ()), ("select 2", ())]
    with pytest.raises(errors.TookTooLong):
        if in_transaction:
            with transaction.atomic():
                timeouts.rows_within(0.05, slow)
        else:
            timeouts.rows_within(0.05, slow)
    assert current() == before
    assert timeouts.rows_within(7, [("select 1", ())]) == [[(1,)]]


@pytest.mark.django_db(transaction=True)
def test_waiting_for_a_lock_while_parsing_is_limited_too() -> None:
    with psycopg.connect(**health.parameters()) as other:
        other.execute("lock table users in access exclusive mode")
        with pytest.raises(errors.TookTooLong):
            timeouts.rows_within(0.05, [("select count(*) from users", ())])
        other.rollback()
    assert timeouts.rows_within(7, [("select count(*) from users", ())]) == [[(0,)]]
