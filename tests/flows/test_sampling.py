"""The journey of a request's count: web process, report, sample, history; also after a kill and without Valkey."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devtools import processes
from metrics.monitoring.metric_types import POSITIONS
from tests import live
from tests.flows.people import Person

pytestmark = pytest.mark.services

SECONDS = 90
SINCE = "select max(slot) from metrics_sample where source = 'cluster'"
VALUES = """
select v[%s] from metrics_sample where source = 'cluster' and slot > %s and v[%s] is not null order by slot
"""


def sampled(stack: live.Stack, metric: str, after: int) -> list[float]:
    """The known values of a metric in the slots after this one."""
    position = POSITIONS[metric] + 1
    return [row[0] for row in stack.query(VALUES, position, after, position)]


def newest(stack: live.Stack) -> int:
    return stack.query(SINCE)[0][0] or 0


def test_counts_of_requests_arrive_in_the_history_without_celery_and_without_valkey(
    stack: live.Stack, person: Callable[[str], Person]
) -> None:
    manager = person("manager")

    # 1. Nobody schedules samples in this stack, so run_subscriptions takes over.
    assert processes.wait_until(lambda: newest(stack) > 0, SECONDS)
    start = newest(stack)

    # 2. What the web process has answered is in one of the next samples.
    for _ in range(20):
        manager.create("user")
    assert processes.wait_until(lambda: sum(sampled(stack, "requests.count", start)) >= 20, SECONDS)
    assert processes.wait_until(lambda: bool(sampled(stack, "requests.p95", start)), SECONDS)

    # 3. A killed sampler leaves a gap; its successor samples once the lease has expired.
    stack.kill_process("subscriptions")
    stopped = newest(stack)
    stack.start_subscriptions()
    assert processes.wait_until(lambda: newest(stack) > stopped, SECONDS)

    # 4. Without Valkey sampling continues, and a metric shows that Valkey is unreachable.
    if stack.valkey:
        stack.valkey.stop()
        without = newest(stack)
        assert processes.wait_until(lambda: 0.0 in sampled(stack, "valkey.reachable", without), SECONDS)
        assert sampled(stack, "db.latency", without)

    # 5. No slot has two samples, and none is from the future.
    rows, slots = stack.query("select count(*), count(distinct slot) from metrics_sample where source = 'cluster'")[0]
    assert rows == slots
    ahead = "select count(*) from metrics_sample where slot > extract(epoch from clock_timestamp()) / 5"
    assert stack.query(ahead) == [(0,)]
