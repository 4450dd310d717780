"""The indexes of the read tables: the query that each serves, and the detection of missing or invalid ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.db.models import UniqueConstraint

# Index -> the query it serves.
SERVES: Final[Mapping[str, str]] = {
    "users_live_created": "users/ by sign-up, and the new users of a day",
    "users_live_plan": "users/?plan=…",
    "users_live_role": "users/?role=…",
    "users_live_email": "users/?sort=email",
    "users_live_name": "users/?sort=name",
    "users_live_last_login": "users/?sort=last_login",
    "users_deleted": "users/?deleted=true",
    "users_deleted_email": "users/?deleted=true&sort=email",
    "users_deleted_name": "users/?deleted=true&sort=name",
    "users_deleted_last_login": "users/?deleted=true&sort=last_login",
    "users_plan_active": "users of a plan by last login",
    "users_mailbox": "the user of an address in an older normal form",
    "users_email_once": "one living user for each address",
    "users_words": "users/?search=… with three letters and more",
    "users_email_begins": "users/?search=… with one or two letters",
    "users_first_name_begins": "users/?search=… with one or two letters",
    "users_last_name_begins": "users/?search=… with one or two letters",
    "forms_live_created": "forms/ by date",
    "forms_live_title": "forms/?sort=title",
    "forms_deleted": "forms/?deleted=true",
    "forms_deleted_title": "forms/?deleted=true&sort=title",
    "forms_user": "forms/?user=…, erasures and exports",
    "forms_user_in_use": "forms/?user=…&archived=false",
    "forms_words": "forms/?search=… and submissions/?search=… with three letters and more",
    "forms_title_begins": "forms/?search=… and submissions/?search=… with one or two letters",
    "submissions_live_created": "submissions/ by date",
    "submissions_deleted": "submissions/?deleted=true",
    "submissions_form_live": "submissions/?form=…",
    "submissions_form_all": "all submissions of a form: erasures and imports",
}

# Indexes of this schema by name, with their state; one that is being built now is not reported.
PRESENT: Final = """
select c.relname, i.indisvalid and i.indisready
       or exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
  from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = current_schema()::regnamespace
"""

# Collations in use whose rules have changed since they were recorded: indexes built before are in another order.
CHANGED_COLLATIONS: Final = """
select format('collation %I', c.collname), c.collversion, pg_collation_actual_version(c.oid)
  from pg_collation c
 where c.collversion <> pg_collation_actual_version(c.oid)
   and c.oid in (select unnest(i.indcollation::oid[]) from pg_index i join pg_class r on r.oid = i.indrelid
                  where r.relnamespace = current_schema()::regnamespace)
union all
select 'the default collation', datcollversion, pg_database_collation_actual_version(oid)
  from pg_database
 where datname = current_database() and datcollversion <> pg_database_collation_actual_version(oid)
"""


@dataclass(frozen=True, slots=True)
class IndexFault:
    """An index that is missing or invalid, or a collation whose rules have changed; `remedy` says what to run."""

    text: str
    remedy: str


def declared() -> dict[str, str]:
    """Maps each index of all models to its table."""
    found: dict[str, str] = {}
    for model in apps.get_models():
        options = model._meta
        if options.managed and not options.proxy:
            unique = [rule for rule in options.constraints if isinstance(rule, UniqueConstraint)]
            found |= {one.name: options.db_table for one in [*options.indexes, *unique]}
    return found


def faults(connection: Any) -> list[IndexFault]:
    """Returns the faults of the indexes in the database of a psycopg connection."""
    present = dict(connection.execute(PRESENT).fetchall())
    found = []
    for name, table in sorted(declared().items()):
        serves = f" ({SERVES[name]})" if name in SERVES else ""
        if name not in present:
            found.append(IndexFault(f"{table} lacks the index {name}{serves}", "create it, see docs/read-side.md"))
        elif not present[name]:
            found.append(IndexFault(f"{name} is invalid{serves}", f"reindex index concurrently {name}"))
    for name, recorded, actual in connection.execute(CHANGED_COLLATIONS).fetchall():
        text = f"{name} was {recorded} when its indexes were built and is {actual} now"
        found.append(IndexFault(text, "reindex the database, then refresh the version of the collation"))
    return found
