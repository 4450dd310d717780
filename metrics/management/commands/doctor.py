"""`manage.py doctor`: checks the requirements of this installation; exit code 1 when something is wrong."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.core.management import BaseCommand
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.utils import timezone

from backoffice import health
from events import snapshots, witness
from events import valkey as valkey_clients
from events.archive import reader as archives
from events.db import primary, replica
from events.db import session as sessions
from events.errors import EventsError
from events.privacy import erasure, key_witness, master_keys
from events.subscriptions import parked
from metrics.counters import reconcile
from metrics.materialized import freshness
from metrics.monitoring import indexes as index_checks
from metrics.monitoring import liveness, machine
from metrics.monitoring.alerting import report
from metrics.monitoring.findings import Finding

OLDEST_POSTGRES = 15
ERASURE_OVERDUE = timedelta(hours=1)
COMPARISON_OVERDUE = 3_600.0  # seconds; a slice is compared every five minutes
LOG_SETTINGS = ("log_error_verbosity", "log_min_error_statement", "log_parameter_max_length_on_error", "log_statement")
# Whether each of LOG_SETTINGS, in this order, lets PostgreSQL's log quote values that users sent.
LOGGED = """
select current_setting('log_error_verbosity') <> 'terse',
       current_setting('log_min_error_statement') not in ('log', 'fatal', 'panic'),
       current_setting('log_parameter_max_length_on_error') <> '0',
       current_setting('log_statement') in ('mod', 'all')
"""
SHOWN = 3
MOST = 1_000
UNREADABLE = f"""
select distinct position, stream from events_parked where {parked.IS_UNREADABLE}
 order by position limit {MOST + 1}
"""  # noqa: S608 - a constant
SEES_ALL = "select pg_has_role('pg_read_all_stats', 'usage')"
# For a day, so that nobody overlooks it.
REWOUND = """
select ended_at from events_epoch_history
 where cause = 'rewound' and ended_at > clock_timestamp() - interval '1 day' order by ended_at desc limit 1
"""
STANDBY = "select pg_is_in_recovery(), events_known_head()"
SETTINGS = "select name, current_setting(name) from unnest(%s::text[]) name"
MARKS = {"ok": "ok  ", "note": "note", "wrong": "WRONG"}


class Command(BaseCommand):
    help = "Check Python, the disk, PostgreSQL, Valkey and Chromium, and report what is wrong."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, **options: Any) -> None:
        findings = [probe() for probe in PROBES if settings.DEBUG or probe not in DEVELOPMENT]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            for finding in findings:
                self.stdout.write(f"{MARKS[finding.state]:<6}{finding.subject:<14}{finding.text}")
        if any(finding.state == "wrong" for finding in findings):
            sys.exit(1)


DURABLE_AND_COMPLETE = "select current_setting('fsync') = 'on', current_setting('server_encoding') = 'UTF8'"


def postgres() -> Finding:
    """Checks that PostgreSQL is reachable, new enough, durable and stores every text."""
    try:
        with health.connect() as connection:
            number = connection.info.server_version
            durable, complete = connection.execute(DURABLE_AND_COMPLETE).fetchone() or (False, False)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Finding("postgres", "wrong", f"no database ({reason}): run `make run`, or set DATABASE_URL")
    version = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number // 10000 < OLDEST_POSTGRES:
        return Finding("postgres", "wrong", f"{version}; {OLDEST_POSTGRES} or newer is needed")
    if not complete:
        return Finding("postgres", "wrong", f"{version}; the encoding of the database is not UTF8")
    if not durable:
        return Finding("postgres", "wrong", f"{version} runs with fsync off: a power cut would lose committed data")
    return Finding("postgres", "ok", version)


def migrations() -> Finding:
    state = health.database()
    return Finding("migrations", "ok" if state == "ok" else "wrong", "applied" if state == "ok" else state)


def erasures() -> Finding:
    """Checks that no erasure is overdue. Purges are retried each minute, so an old one fails repeatedly."""
    try:
        with health.connect() as connection:
            row = connection.execute(erasure.STATUS).fetchone()
    except psycopg.Error:
        return Finding("erasures", "note", "unknown: the database does not answer")
    assert row is not None
    _, erased, waiting, since = row
    if not waiting:
        return Finding("erasures", "ok", f"{erased} records erased; all their copies are cleared")
    late = timezone.now() - since > ERASURE_OVERDUE
    text = f"{waiting} erased records wait for their copies to be cleared, since {since:%Y-%m-%d %H:%M}"
    return Finding("erasures", "wrong" if late else "note", f"{text}; see the log of the worker" if late else text)


def keys() -> Finding:
    """Checks that each master key decrypts the data encrypted under its id."""
    try:
        with health.connect() as connection:
            found = key_witness.statuses(lambda statement: connection.execute(statement).fetchall())
    except psycopg.Error:
        return Finding("keys", "note", "unknown: the database does not answer")
    for key in found:
        if key.state == "missing":
            text = f"PRIVACY_KEYS lacks {key.key_id!r}: personal data under it cannot be read. Add it at the end"
            return Finding("keys", "wrong", text)
        if key.state == "wrong":
            decrypted = f"it decrypts {key.opened} of {key.tried} samples"
            text = f"{key.key_id!r} of PRIVACY_KEYS is not the key that was used under this id ({decrypted}):"
            return Finding("keys", "wrong", f"{text} writes are refused. Put the right key back")
    older = [repr(key.key_id) for key in found if key.key_id != master_keys.current()]
    if older:
        return Finding(
            "keys", "note", f"some personal data is still encrypted under {', '.join(older)}: run rotate_keys"
        )
    return Finding("keys", "ok", f"{master_keys.current()!r} decrypts what it encrypted" if found else "none used yet")


def history() -> Finding:
    """Checks that the log contains every event that was published."""
    try:
        with health.connect() as connection:
            lost = witness.doubt(lambda sql, values: connection.execute(sql, values).fetchall())
            row = connection.execute(REWOUND).fetchone()
    except psycopg.Error:
        return Finding("history", "note", "unknown: the database does not answer")
    remedy = "see docs/several-hosts.md, Restore"
    if lost:
        text = f"event {lost.event_id} at position {lost.position:,} was published, but the log lacks it"
        return Finding("history", "wrong", f"{text}: start run_subscriptions, which gives it a new epoch; {remedy}")
    if row:
        text = f"PostgreSQL's files were put back to an earlier state, noticed at {row[0]:%Y-%m-%d %H:%M}"
        return Finding("history", "wrong", f"{text}: published events are lost; {remedy}")
    return Finding("history", "ok", "the log has every event that was published")


def archive_files() -> Finding:
    """Checks that the file of each archived part of the log is there, with its size; `verify_events` reads them."""
    try:
        found = archives.gone()
    except (psycopg.Error, DatabaseError, EventsError):
        return Finding("archives", "note", "unknown: the database does not answer")
    missing = [one.file for one in found if not archives.is_present(one)]
    if missing:
        some = ", ".join(missing[:SHOWN])
        text = f"{len(missing)} missing or incomplete in {settings.ARCHIVE_DIR}: {some}; bring them back from a backup"
        return Finding("archives", "wrong", text)
    return Finding("archives", "ok", f"{len(found)} files, in {settings.ARCHIVE_DIR}" if found else "none")


def servers() -> Finding:
    """Checks that no server of DATABASE_URL that accepts writes is a former primary."""
    found = primary.writable_servers(health.parameters())
    if former := [name for name, is_former in found.items() if is_former]:
        text = f"{', '.join(former)} accepts writes, but another server has continued its history"
        return Finding("servers", "wrong", f"{text}: stop it; see docs/several-hosts.md, The primary is lost")
    return Finding("servers", "ok" if found else "note", f"{', '.join(found) or 'none'} accepts writes")


def standby() -> Finding:
    """Checks that the standby of DATABASE_READ_URL answers, and reports the position that it has reached."""
    if not replica.configured():
        return Finding("standby", "ok", "none: everything is read from the primary")
    try:
        with psycopg.connect(**health.parameters(replica.ALIAS)) as connection:
            row = connection.execute(STANDBY).fetchone()
    except psycopg.Error as error:
        return Finding("standby", "wrong", f"does not answer, everything is read from the primary: {error}")
    assert row is not None
    recovers, reached = row
    if not recovers:
        return Finding("standby", "note", "DATABASE_READ_URL is no standby")
    return Finding("standby", "ok", f"has the log up to position {reached:,}")


def plain_snapshots() -> Finding:
    """Checks that no snapshot is plain. `migrate`, a nightly task and each erasure encrypt plain ones."""
    try:
        with health.connect() as connection:
            row = connection.execute(snapshots.COUNT_PLAIN, (snapshots.personal_categories(),)).fetchone()
    except psycopg.Error:
        return Finding("snapshots", "note", "unknown: the database does not answer")
    count = row[0] if row else 0
    if not count:
        return Finding("snapshots", "ok", "none contains personal data in plain text")
    text = f"{count} contain personal data in plain text, written by an earlier release: stop its processes, then run"
    return Finding("snapshots", "wrong", f"{text} the task events.tasks.snapshot")


def postgres_log() -> Finding:
    """Checks that PostgreSQL does not quote values sent by users when it logs an error."""
    try:
        with health.connect() as connection:
            row = connection.execute(LOGGED).fetchone()
    except psycopg.Error:
        return Finding("server log", "note", "unknown: the database does not answer")
    assert row is not None
    if quoting := [name for name, quotes in zip(LOG_SETTINGS, row, strict=True) if quotes]:
        text = f"PostgreSQL's log may quote personal data ({', '.join(quoting)}): see docs/privacy.md"
        return Finding("server log", "note", text)
    return Finding("server log", "ok", "PostgreSQL writes no values into its log")


def indexes() -> Finding:
    """Checks that every declared index exists and is valid, under the collation it was built with."""
    try:
        with health.connect() as connection:
            found = index_checks.faults(connection)
    except psycopg.Error:
        return Finding("indexes", "note", "unknown: the database does not answer")
    if not found:
        return Finding("indexes", "ok", "all exist and are valid, with the collations they were built with")
    some = "; ".join(f"{fault.text}: {fault.remedy}" for fault in found[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Finding("indexes", "wrong", some + more)


def events() -> Finding:
    """Checks that no event is parked because this release cannot read it."""
    try:
        with health.connect() as connection:
            found = connection.execute(UNREADABLE).fetchall()
    except psycopg.Error:
        return Finding("events", "note", "unknown: the database does not answer")
    if not found:
        return Finding("events", "ok", "none is parked as unreadable; `verify_events` reads them all")
    some = ", ".join(f"{position} ({stream})" for position, stream in found[:SHOWN])
    many = f"more than {MOST:,}" if len(found) > MOST else f"{len(found):,}"
    return Finding("events", "wrong", f"{many} cannot be read: {some}; see docs/operations.md, Unreadable events")


def counters() -> Finding:
    """Checks that the last comparisons of the counters with the read tables found no difference."""
    try:
        with health.connect() as connection:
            row = connection.execute(reconcile.LATEST).fetchone()
    except psycopg.Error:
        return Finding("counters", "note", "unknown: the database does not answer")
    if row is None:
        return Finding("counters", "note", "not compared with the read tables yet")
    return Finding("counters", *_compared(*row))


def _compared(
    state: str, at: datetime, note: str, uncounted: int, age: float, different: int, dropped: bool
) -> tuple[str, str]:
    """State and text of a finding, from a row of `reconcile.LATEST`."""
    if different:
        text = f"{different} comparisons found wrong numbers: run reconcile_counters --all, then rebuild_projection"
        return "wrong", f"{text} counters"
    if dropped:
        return "wrong", "the database's clock was ahead and old hours were dropped: run rebuild_projection counters"
    if age > COMPARISON_OVERDUE:
        return "wrong", f"not compared since {at:%Y-%m-%d %H:%M}: is Celery beat running?"
    if uncounted:
        return "note", f"{uncounted:,} records are not counted: their streams are parked"
    if state == "incomplete":
        return "note", f"not compared: {note}"
    return "ok", f"equal to the read tables at {at:%Y-%m-%d %H:%M}"


def views() -> Finding:
    """Checks that the materialized views are refreshed; names a session that prevents it."""
    try:
        with health.connect() as connection:

            def run(statement: str) -> Sequence[Sequence[Any]]:
                return connection.execute(statement).fetchall()

            found, holder = freshness.statuses(run), freshness.holder(run)
    except psycopg.Error:
        return Finding("views", "note", "unknown: the database does not answer")
    waiting = f"; {holder} holds the lock" if holder else ""
    for view in found:
        match freshness.state(view):
            case "never":
                return Finding("views", "note", f"{view.name} is not computed yet: Celery beat refreshes it{waiting}")
            case "failed":
                return Finding("views", "wrong", f"{view.name}: {view.error}{waiting}; run refresh_views")
            case "late":
                text = f"{view.name} is {(view.age or 0) / 60:.0f} minutes old: is Celery beat running?{waiting}"
                return Finding("views", "wrong", text)
        if view.differences:
            text = f"{view.differences} days of {view.name} differ from the counters: run reconcile_counters"
            return Finding("views", "wrong", text)
    return Finding("views", "ok", ", ".join(f"{view.name} as of position {view.position:,}" for view in found))


def session() -> Finding:
    """Checks that the settings that end hung sessions reach the server; poolers drop start-up options."""
    try:
        with psycopg.connect(**health.parameters() | {"options": _options()}) as connection:
            rows = connection.execute(SETTINGS, (list(sessions.SETTINGS),)).fetchall()
    except psycopg.Error:
        return Finding("session", "note", "unknown: the database does not answer")
    found = dict(rows)
    wrong = [f"{name} is {found.get(name)}" for name, value in sessions.SETTINGS.items() if found.get(name) != value]
    if wrong:
        text = f"{', '.join(wrong)}: a hung writer would hold the head; see grant_application"
        return Finding("session", "wrong", text)
    return Finding("session", "ok", ", ".join(f"{name} {value}" for name, value in sessions.SETTINGS.items()))


def _options() -> str:
    """The start-up options of the application's own connections."""
    options: str = connections[DEFAULT_DB_ALIAS].get_connection_params().get("options", "")
    return options


def valkey() -> Finding:
    """Checks that Valkey is reachable, and that the one with the task queue never evicts keys."""
    effects = {"REDIS_URL": "live updates poll, tasks wait"}
    if settings.REDIS_QUEUE_URL:
        effects = {"REDIS_URL": "live updates poll", "REDIS_QUEUE_URL": "tasks wait"}
    for name, effect in effects.items():
        try:
            with valkey_clients.client("queue" if name == "REDIS_QUEUE_URL" else "background") as client:
                info = client.info()
        except redis.AuthenticationError:
            return Finding("valkey", "wrong", f"refuses the password of {name}: {effect}")
        except redis.RedisError:
            return Finding("valkey", "wrong", f"does not answer, see {name}: {effect}")
    version = info.get("valkey_version") or info.get("redis_version")
    policy = info.get("maxmemory_policy")  # of the queue
    if policy != "noeviction":
        return Finding("valkey", "wrong", f"{version} may evict tasks ({policy}): set maxmemory-policy noeviction")
    return Finding("valkey", "ok", f"{version}, {policy}")


def sessions_seen() -> Finding:
    """Checks that the application may see the sessions of others, which the metrics count."""
    try:
        with health.connect() as connection:
            (sees_all,) = connection.execute(SEES_ALL).fetchall()[0]
    except psycopg.Error:
        return Finding("sessions", "note", "unknown: the database does not answer")
    if not sees_all:
        return Finding("sessions", "note", "those of others are not seen: grant pg_read_all_stats to this login")
    return Finding("sessions", "ok", "all are seen")


def alerts() -> Finding:
    """Lists the alerts that fire. An alert is no fault of this installation, so it is a note."""
    try:
        rows = report.firing()
        said = report.summary(rows)
    except DatabaseError:
        return Finding("alerts", "note", "not checked: the tables are missing or cannot be read")
    if not rows:
        return Finding("alerts", "ok", "none fires")
    return Finding("alerts", "note", f"{len(rows)} {'fires' if len(rows) == 1 else 'fire'}: {said}")


PROBES: tuple[Callable[[], Finding], ...] = (
    machine.python,
    machine.disk,
    machine.embedded_wheels,
    machine.running,
    postgres,
    migrations,
    indexes,
    keys,
    events,
    history,
    archive_files,
    servers,
    standby,
    counters,
    session,
    views,
    alerts,
    erasures,
    plain_snapshots,
    postgres_log,
    valkey,
    *map(liveness.finding, liveness.CHECKS),
    sessions_seen,
    machine.chromium,
)
# Needed only by `make run` and the tests.
DEVELOPMENT: tuple[Callable[[], Finding], ...] = (machine.embedded_wheels, machine.running, machine.chromium)
