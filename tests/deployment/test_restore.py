"""A backup in two parts is restored with the commands of docs/deployment.md, word by word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from backoffice.models import Form, Submission, User
from backoffice.sections.privacy import export_jobs
from backoffice.sections.users import domain as users
from devtools.postgres import postgres_program
from events import commands, head, snapshots, store
from events.export_reads import ExportReads
from events.integrity import verify
from events.privacy import subject_keys
from tests import factories, live
from tests import own_database as own_databases

BLOCKS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def restored(own_database: None) -> Iterator[str]:
    """The name of an empty database beside that of the test."""
    name = f"{connection.settings_dict['NAME']}_restored"
    live.drop_database(name)
    with live._maintenance() as maintenance:
        maintenance.execute(f'create database "{name}"')
    yield name
    connection.close()
    connection.close_pool()
    live.drop_database(name)


def run(block: str, folder: Path, **variables: str) -> str:
    """Run a block of the documentation; returns what it printed. Any error ends the test."""
    done = subprocess.run(
        ["sh", "-eux", "-c", block.replace("python manage.py", f"{sys.executable} {live.PROJECT}/manage.py")],
        cwd=folder,
        env=os.environ
        | {"PATH": f"{postgres_program().parent}:{os.environ['PATH']}", "DJANGO_SETTINGS_MODULE": "backoffice.settings"}
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"(?i)\b(error|warning):", done.stderr), done.stderr
    return done.stdout


def content() -> dict[str, Any]:
    return {model.__name__: sorted(model.objects.values_list("pk", "version")) for model in (User, Form, Submission)}


@pytest.mark.services
def test_two_part_dump_is_restored_without_an_error_and_erased_people_stay_erased(
    restored: str, tmp_path: Path
) -> None:
    user = factories.user(first_name="Augusta", email="augusta@example.org")
    factories.submission(factories.form(owner=user), q="an answer")
    erased = factories.user(first_name="Byron", email="byron@example.org")
    commands.dispatch(factories.command(users.EraseUser(), erased, reason="asked for it"))
    exported = export_jobs._new(User.objects.get(pk=user))
    assert export_jobs.advance(exported.pk, ExportReads())
    before, epoch, end = content(), head.epoch(), head.safe()
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.close_pool()
    backup, restore = BLOCKS.findall((live.PROJECT / "docs" / "deployment.md").read_text())
    run(backup, tmp_path, OWNER_URL=live.database_url(name))
    new = live.database_url(restored)
    run(restore, tmp_path, NEW_OWNER_URL=new, DATABASE_URL=new)
    own_databases._use(restored)
    try:
        assert (head.epoch() == epoch, head.safe()) == (False, end), "another log: every client starts over"
        assert content() == before
        assert snapshots.state(f"user-{user}")[0].first_name == "Augusta"
        assert verify.verify().ok
        run("pg_restore --file=log.sql log.dump", tmp_path)
        assert "augusta@example.org" not in (tmp_path / "log.sql").read_text()
        assert "Byron" not in str(store.read_stream(f"user-{erased}"))
        assert store.query("select count(*) from users where email like 'byron%'")[0][0] == 0
        copies = "select (select count(*) from person_exports), (select count(*) from person_export_parts)"
        assert store.query(copies) == [(0, 0)], "their keys are beside them, and a backup outlives an erasure"
    finally:
        own_databases._use(name)
        subject_keys.CACHE.clear()
