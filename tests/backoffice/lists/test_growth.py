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


# Each is answered with few rows of a long list.
QUESTIONS: tuple[dict[str, Any], ...] = (
    {"filters": {"deleted": "true"}},
    {"filters": {"role": "owner"}},
    {"search": "zq"},
    {"search": "z"},
    {"search": "xx"},
)


@pytest.mark.django_db
def test_a_page_of_few_rows_reads_few() -> None:
    costs: list[list[int]] = []
    for before, size in ((0, 6_000), (6_000, 18_000)):
        fill(before, size)
        costs.append([rows_read(listing.page, "users", count=False, **question) for question in QUESTIONS])
    grown = [
        (question, few, many) for question, few, many in zip(QUESTIONS, *costs, strict=True) if many > few * 1.1 + 50
    ]
    assert not grown
