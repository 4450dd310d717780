"""The cost of a page of a list does not grow with the rows around it; it is counted in rows read."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from backoffice import listing
from tests.costs import rows_read

FILL = """
insert into users (id, email, first_name, last_name, plan, role, created_at, deleted_at, version, updated_at)
select gen_random_uuid(), 'person' || n || '-' || gen_random_uuid() || '@example.org',
       case when n <= 50 then 'Zq' else 'Ada' end, 'Last' || n, 'free',
       case when n <= 60 then 'owner' else 'member' end,
       now() - n * interval '1 minute', case when n between 100 and 150 then now() end, 1, now()
  from generate_series(%s + 1, %s) n
"""


def fill(before: int, upto: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL, [before, upto])
        cursor.execute("analyze users")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "question",
    [
        {"filters": {"deleted": "true"}},
        {"filters": {"role": "owner"}},
        {"search": "zq"},
        {"search": "z"},
        {"search": "xx"},
    ],
    ids=str,
)
def test_a_page_of_few_rows_reads_few(question: dict[str, Any]) -> None:
    costs, before = [], 0
    for size in (6_000, 18_000):
        fill(before, size)
        costs.append(rows_read(listing.page, "users", count=False, **question))
        before = size
    assert costs[1] <= costs[0] * 1.1 + 50, costs
