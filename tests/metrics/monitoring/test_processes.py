"""Counts of requests and tasks: what is counted, and how the reports of processes become values of a slot."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from backoffice.celery import app as celery_app
from events import store
from metrics import queries
from metrics.monitoring import buckets, process_reports, request_counts
from metrics.monitoring.history import tables, write
from metrics.monitoring.probes import certificate, differences, processes, valkey
from metrics.monitoring.request_counts import CountRequests, Counts

# -- buckets ----------------------------------------------------------------------------------------------------------


def test_percentile_is_exact_to_within_five_percent() -> None:
    counts = [0] * buckets.SIZE
    for milliseconds in range(1, 10_001):
        counts[buckets.index(milliseconds / 1000)] += 1
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert buckets.percentile(counts, share) == pytest.approx(10 * share, rel=0.05)


def test_every_duration_has_a_bucket_that_ends_at_or_after_it() -> None:
    for seconds in (0.0, 1e-9, 1e-4, 1.1e-4, 0.001, 1.0, 59.9, 3600.0):
        number = buckets.index(seconds)
        assert 0 <= number < buckets.SIZE
        assert seconds <= buckets.upper(number) * 1.000001 or number == buckets.SIZE - 1
        assert number == 0 or seconds > buckets.upper(number - 1) * 0.999999


def test_histogram_without_requests_has_no_percentile() -> None:
    assert buckets.percentile([0] * buckets.SIZE, 0.5) is None


# -- requests ---------------------------------------------------------------------------------------------------------


def answer(status: int | None, *, path: str = "/admin/", error: BaseException | None = None) -> Counts:
    """The counts after one request to an application that answers with this status, or raises this error."""

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        if status is not None:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        if error is not None:
            raise error

    async def nothing(*_: Any) -> Any:
        return {}

    counts = Counts()
    counted = CountRequests(application, into=counts)
    expected = pytest.raises(type(error)) if error is not None else contextlib.nullcontext()
    with expected:
        asyncio.run(counted({"type": "http", "path": path, "method": "GET"}, nothing, nothing))
    return counts


@pytest.mark.parametrize(
    ("status", "error", "requests", "errors"),
    [
        (200, None, 1, 0),
        (302, None, 1, 0),
        (404, None, 1, 0),
        (429, None, 1, 0),
        (500, None, 1, 1),
        (503, None, 1, 1),
        (None, RuntimeError("no answer"), 1, 1),
        (200, RuntimeError("half an answer"), 1, 1),
        (None, asyncio.CancelledError(), 0, 0),
        (None, None, 0, 0),
    ],
)
def test_5xx_and_exceptions_are_errors(
    status: int | None, error: BaseException | None, requests: int, errors: int
) -> None:
    counts = answer(status, error=error)
    assert counts.numbers[request_counts.REQUESTS] == requests
    assert counts.numbers[request_counts.ERRORS] == errors
    assert sum(counts.buckets) == requests


@pytest.mark.parametrize("path", sorted(request_counts.NOT_COUNTED))
def test_questions_of_machines_are_not_counted(path: str) -> None:
    assert answer(503, path=path).numbers == [0] * request_counts.SIZE


def test_sockets_are_not_counted() -> None:
    async def application(_scope: Any, _receive: Any, _send: Any) -> None:
        pass

    async def nothing(*_: Any) -> Any:
        return {}

    counts = Counts()
    asyncio.run(CountRequests(application, into=counts)({"type": "websocket", "path": "/ws/"}, nothing, nothing))
    assert counts.numbers == [0] * request_counts.SIZE


# -- reports ----------------------------------------------------------------------------------------------------------


def reporter(kind: str = "web") -> tuple[process_reports.Reporter, Counts]:
    counts = Counts()
    return process_reports.Reporter(kind, counts), counts


@pytest.mark.django_db
def test_counts_of_processes_are_added_and_each_is_taken_once() -> None:
    slot = tables.present_slot()
    tables.create_partitions(slot)
    (one, first), (two, second) = reporter(), reporter()
    for number in range(100):
        first.request(0.01, failed=number < 3)
    second.request(2.0, failed=False)
    one.write()
    two.write()
    found = processes.read(slot)
    assert (found[("requests.count", "")], found[("errors.count", "")]) == (101, 3)
    assert found[("errors.rate", "")] == pytest.approx(100 * 3 / 101)
    assert found[("requests.p50", "")] == pytest.approx(0.01, rel=0.05)
    assert found[("requests.p99", "")] == pytest.approx(0.01, rel=0.05)
    assert processes.read(slot + 1)[("requests.count", "")] == 0
    first.request(0.01, failed=False)
    one.write()
    assert processes.read(slot + 2)[("requests.count", "")] == 1


@pytest.mark.django_db
def test_percentiles_are_of_merged_counts() -> None:
    slot = tables.present_slot()
    tables.create_partitions(slot)
    (one, fast), (two, slow) = reporter(), reporter()
    for _ in range(90):
        fast.request(0.01, failed=False)
    for _ in range(10):
        slow.request(1.0, failed=False)
    one.write()
    two.write()
    found = processes.read(slot)
    assert found[("requests.p50", "")] == pytest.approx(0.01, rel=0.05)
    assert found[("requests.p95", "")] == pytest.approx(1.0, rel=0.05)  # the mean of both p95 would be 0.5


@pytest.mark.django_db
def test_counts_after_a_gap_are_missing_and_not_a_peak() -> None:
    slot = tables.present_slot()
    tables.create_partitions(slot)
    one, counts = reporter()
    one.write()
    processes.read(slot)
    for _ in range(1000):
        counts.request(0.01, failed=True)
    one.write()
    assert ("requests.count", "") not in processes.read(slot + 120)
    counts.request(0.01, failed=False)
    one.write()
    assert processes.read(slot + 121)[("requests.count", "")] == 1


@pytest.mark.django_db
def test_error_rate_adds_five_minutes_and_averages_no_ratios() -> None:
    slot = tables.present_slot()
    tables.create_partitions(slot - 60)
    write.values(slot - 1, {("requests.count", ""): 998, ("errors.count", ""): 0})
    write.values(slot - 59, {("requests.count", ""): 1, ("errors.count", ""): 1})
    write.values(slot - 60, {("requests.count", ""): 9, ("errors.count", ""): 9})  # too old
    one, counts = reporter()
    counts.request(0.01, failed=True)
    one.write()
    assert processes.read(slot)[("errors.rate", "")] == pytest.approx(100 * 2 / 1000)


@pytest.mark.django_db
def test_error_rate_without_requests_is_missing() -> None:
    slot = tables.present_slot()
    tables.create_partitions(slot)
    reporter()[0].write()
    assert processes.read(slot)[("errors.rate", "")] is None


@pytest.mark.django_db
def test_host_and_clock_difference_come_from_the_newest_report() -> None:
    one, _ = reporter()
    one.write()
    found = processes.read(tables.present_slot())
    assert found[("cpu.percent", one.host)] is None  # the first reading
    assert found[("host.skew", one.host)] is None
    one.write()
    found = processes.read(tables.present_slot())
    assert 0 <= (found[("host.skew", one.host)] or 0.0) < 5


@pytest.mark.django_db
def test_silent_host_is_missing() -> None:
    one, _ = reporter()
    one.write()
    store.query("update metrics_process set reported_at = clock_timestamp() - interval '20 seconds' returning 1")
    assert not any(name == "memory.percent" for name, _ in processes.read(tables.present_slot()))


@pytest.mark.django_db
def test_age_of_a_dead_worker_goes_on_growing() -> None:
    one, counts = reporter("worker")
    one.write()
    assert processes.read(tables.present_slot())[("worker.age", "")] is None  # it has not finished a task yet
    counts.task()
    one.write()
    store.query("update metrics_process set active_at = active_at - interval '2 hours' returning 1")
    store.query("update metrics_process set reported_at = reported_at - interval '2 hours' returning 1")
    process_reports.expire()
    assert (processes.read(tables.present_slot())[("worker.age", "")] or 0) >= 7200


@pytest.mark.django_db
def test_expired_reports_are_deleted_but_for_the_last_of_each_kind() -> None:
    for _ in range(3):
        reporter("web")[0].write()
    store.query("update metrics_process set reported_at = reported_at - interval '2 hours' returning 1")
    reporter("web")[0].write()
    process_reports.expire()
    assert store.query("select count(*) from metrics_process")[0][0] == 1


@pytest.mark.django_db
def test_person_in_two_processes_is_online_once() -> None:
    one, two = reporter()[0], reporter()[0]
    for each in (one, two):
        each.write()
    for each, people in ((one, "{staff:1,staff:2}"), (two, "{staff:2,staff:3}")):
        store.query("update metrics_process set people = %s where process = %s returning 1", (people, each.process))
    assert processes.read(tables.present_slot())[("staff.online", "")] == 3


@pytest.mark.django_db(transaction=True)
def test_loop_writes_reports_until_it_is_stopped() -> None:
    one, counts = reporter()
    counts.request(0.01, failed=False)
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_no_report_is_started_where_they_are_switched_off(settings: Any) -> None:
    settings.PROCESS_REPORTS = False
    process_reports.start("web")
    assert process_reports._started == {}


@pytest.mark.django_db
def test_share_of_cache_hits_comes_from_the_counts_of_the_cache() -> None:
    slot = tables.present_slot()
    one, counts = reporter()
    one.write()
    assert processes.read(slot)[("cache.hit", "")] is None  # nobody has read
    counts.cache_reads = lambda: (30, 10)
    one.write()
    assert processes.read(slot + 1)[("cache.hit", "")] == 75
    assert request_counts.counts.cache_reads is queries.hits_and_misses
    assert all(number >= 0 for number in queries.hits_and_misses())


# -- counters of others -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_difference_of_a_counter_is_missing_at_first_after_a_gap_and_after_a_restart() -> None:
    taken = [
        differences.since_last_slot(slot, {"evicted": value})
        for slot, value in ((1, 5), (2, 8), (3, 8), (10, 99), (11, 100), (12, 3), (13, 4))
    ]
    assert taken == [{}, {"evicted": 3}, {"evicted": 0}, {}, {"evicted": 1}, {}, {"evicted": 1}]


@pytest.mark.django_db
def test_counters_that_nobody_stores_are_deleted() -> None:
    differences.since_last_slot(1, {"old": 1})
    differences.since_last_slot(1000, {"new": 1})
    differences.expire(1000)
    assert store.query("select name from metrics_counter") == [("new",)]


# -- the queue --------------------------------------------------------------------------------------------------------


def test_queue_counts_all_priorities_and_knows_the_oldest_task() -> None:
    """celery-exporter#272: the list of the queue's name alone has only the tasks without a priority."""
    with celery_app.connection_for_write() as connection:
        celery_app.control.purge(connection)
        queue = connection.SimpleQueue(celery_app.conf.task_default_queue)
        before = valkey.read_queue(0)
        assert (before[("queue.depth", "")], before[("queue.age", "")]) == (0, 0)
        for priority in (0, 3, 6, 9):
            celery_app.send_task("tests.nobody_runs_this", priority=priority)
        found = valkey.read_queue(0)
        for _ in range(4):
            queue.get(timeout=10).ack()
        assert found[("queue.depth", "")] == 4
        assert 0 <= (found[("queue.age", "")] or 0.0) < 60


def test_fetched_task_that_is_not_acknowledged_counts_as_queued() -> None:
    with celery_app.connection_for_write() as connection:
        celery_app.control.purge(connection)
        queue = connection.SimpleQueue(celery_app.conf.task_default_queue)
        celery_app.send_task("tests.nobody_runs_this")
        message = queue.get(timeout=10)
        assert valkey.read_queue(0)[("queue.depth", "")] == 1
        message.ack()
        assert valkey.read_queue(0)[("queue.depth", "")] == 0


# -- the certificate --------------------------------------------------------------------------------------------------


def served(folder: Path, days: float) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for localhost that expires in `days` days, and the TLS context of a server with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "served.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context


@pytest.mark.parametrize(("days", "left"), [(20.5, 20.5), (-1, 0.0)])
def test_certificate_has_days_left_or_has_expired(tmp_path: Path, days: float, left: float) -> None:
    path, context = served(tmp_path, days)

    async def ask() -> float:
        server = await asyncio.start_server(lambda *_: None, "localhost", 0, ssl=context)
        trusting = ssl.create_default_context(cafile=str(path))
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(certificate.days_left, "localhost", port, trusting)

    assert asyncio.run(ask()) == pytest.approx(left, abs=0.1)
