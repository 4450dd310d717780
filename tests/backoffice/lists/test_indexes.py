"""Indexes of the read tables: their migrations can be repeated, and `doctor` reports what is wrong with them."""

from __future__ import annotations

from importlib import import_module

import psycopg
import pytest
from django.apps import apps
from django.db import connection, utils
from django.db.migrations.state import ProjectState

from backoffice import health, index_operations, models
from devtools import processes
from metrics.monitoring import indexes
from tests import factories
from tests.backoffice import list_rows

DEFINITION = "select pg_get_indexdef(indexrelid), indisvalid from pg_index where indexrelid = to_regclass(%s)"


def query(statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def faults() -> list[str]:
    return [fault.text for fault in indexes.faults(connection.connection)]


def test_every_index_of_the_lists_names_the_query_it_serves() -> None:
    tables = {model._meta.db_table for model in (models.User, models.Form, models.Submission)}
    assert {name for name, table in indexes.declared().items() if table in tables} == set(indexes.SERVES)


@pytest.mark.django_db
def test_doctor_finds_no_fault_in_a_migrated_database() -> None:
    connection.ensure_connection()
    assert faults() == []


@pytest.mark.django_db
def test_doctor_reports_missing_and_invalid_indexes() -> None:
    query("drop index users_live_role")
    query("update pg_index set indisvalid = false where indexrelid = 'forms_words'::regclass")
    invalid, missing = faults()
    assert invalid.startswith("forms_words is invalid (forms/?search=…")
    assert missing == "users lacks the index users_live_role (users/?role=…)"


@pytest.mark.django_db
def test_doctor_reports_a_collation_whose_rules_have_changed() -> None:
    version = "select pg_database_collation_actual_version(oid) from pg_database where datname = current_database()"
    if query(version) == [(None,)]:
        pytest.skip("the default collation of this server has no version")
    query("update pg_database set datcollversion = '0' where datname = current_database()")
    (found,) = faults()
    assert found.startswith("the default collation was 0 when its indexes were built and is ")


@pytest.mark.django_db(transaction=True)
def test_a_failed_build_of_an_index_is_repeated() -> None:
    wanted = query(DEFINITION, "users_live_role")
    list_rows.users(2)
    query("drop index users_live_role")
    with pytest.raises(utils.IntegrityError):
        query("create unique index concurrently users_live_role on users (plan)")
    assert query(DEFINITION, "users_live_role")[0][1] is False
    migration = import_module("backoffice.migrations.0010_live_indexes").Migration
    (operation,) = [one for one in migration.operations if one.index.name == "users_live_role"]
    assert isinstance(operation, index_operations.BuildIndex)
    state = ProjectState.from_apps(apps)
    for _ in range(2):  # the second time it finds a valid index
        with connection.schema_editor(atomic=False) as editor:
            operation.database_forwards("backoffice", editor, state, state)
        assert query(DEFINITION, "users_live_role") == wanted


WAITS = "select 1 from pg_locks where not granted and %s = any(pg_blocking_pids(pid))"


@pytest.mark.django_db(transaction=True)
def test_a_build_waits_for_a_transaction_for_longer_than_other_statements() -> None:
    wanted = query(DEFINITION, "users_live_role")
    query("drop index users_live_role")

    def migrate() -> None:
        query("set lock_timeout = '1ms'")  # in the session of this thread
        migration = import_module("backoffice.migrations.0010_live_indexes").Migration
        (operation,) = [one for one in migration.operations if one.index.name == "users_live_role"]
        state = ProjectState.from_apps(apps)
        with connection.schema_editor(atomic=False) as editor:
            operation.database_forwards("backoffice", editor, state, state)

    with psycopg.connect(**health.parameters()) as other:
        other.execute("set transaction isolation level repeatable read")  # so that its snapshot stays open
        other.execute("select from users")
        build = factories.Thread(migrate)
        pid = other.info.backend_pid
        assert processes.wait_until(lambda: bool(query(WAITS, pid)) or not build.is_alive(), 30)
        assert build.is_alive()
    build.result()
    assert query(DEFINITION, "users_live_role") == wanted


@pytest.mark.django_db
def test_the_search_function_does_not_depend_on_the_search_path() -> None:
    query("set local search_path = pg_catalog")
    assert query("select public.search_text('Straße é')") == [("STRASSE E",)]


@pytest.mark.django_db
def test_the_search_function_is_the_same_for_ascii_and_other_text() -> None:
    ascii_text = "".join(map(chr, range(1, 128)))
    assert query("select search_text(%s) = search_fold(%s)", ascii_text, ascii_text) == [(True,)]
