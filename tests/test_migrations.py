"""Every migration can be applied while processes of the previous release run."""

from __future__ import annotations

import pytest
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from tests import migration_safety

# Migrations of releases before this rule. Nothing is added here.
EARLIER = {"events.0007_removal"}


def test_migrations_remove_nothing_that_the_previous_release_uses() -> None:
    found = {name: faults for name, faults in migration_safety.destructive().items() if name not in EARLIER}
    assert found == {}, "remove it one release later, in a migration with `contract = True` (CONTRIBUTING.md)"


def state() -> ProjectState:
    made = ProjectState()
    fields: list[tuple[str, models.Field]] = [  # type: ignore[type-arg]
        ("id", models.AutoField(primary_key=True)),
        ("name", models.CharField(max_length=50, null=True)),
    ]
    made.add_model(ModelState("shop", "Item", fields))
    return made


@pytest.mark.parametrize(
    "operation",
    [
        migrations.DeleteModel("Item"),
        migrations.RemoveField("Item", "name"),
        migrations.RenameField("Item", "name", "title"),
        migrations.RenameModel("Item", "Thing"),
        migrations.AlterModelTable("Item", "things"),
        migrations.AddField("Item", "size", models.IntegerField(default=1)),
        migrations.AlterField("Item", "name", models.CharField(max_length=50)),
        migrations.AlterField("Item", "name", models.CharField(max_length=40, null=True)),
        migrations.AlterField("Item", "name", models.IntegerField(null=True)),
        migrations.RunSQL("alter table shop_item drop column name"),
        migrations.RunSQL(["create index i on t (x)", ("drop  table shop_item", [])]),
        migrations.RunSQL("alter table shop_item add column size int not null"),
        migrations.RunSQL("alter table shop_item alter column name type bigint using 1"),
        migrations.RunSQL("alter table shop_item alter name set not null"),
        migrations.RunSQL("alter table shop_item rename to things"),
        migrations.SeparateDatabaseAndState(database_operations=[migrations.RunSQL("drop view v")]),
    ],
    ids=lambda operation: operation.describe()[:40],
)
def test_operation_that_breaks_the_previous_release_is_found(operation: Operation) -> None:
    assert len(list(migration_safety.of_operations([operation], "shop", state()))) == 1


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("Item", "size", models.IntegerField(null=True)),
        migrations.AddField("Item", "size", models.IntegerField(db_default=1)),
        migrations.AlterField("Item", "name", models.CharField(max_length=60, null=True, verbose_name="Name")),
        migrations.CreateModel("Other", [("id", models.AutoField(primary_key=True))]),
        migrations.RunSQL("alter table shop_item add column size int not null default 1"),
        migrations.RunSQL("-- drop table x\ncreate function f() returns void as $$ begin drop table x; end $$"),
    ],
    ids=lambda operation: operation.describe()[:40],
)
def test_operation_that_only_adds_is_allowed(operation: Operation) -> None:
    assert list(migration_safety.of_operations([operation], "shop", state())) == []
