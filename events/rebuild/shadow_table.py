"""The live read table and its copy in a schema of its own: created, swapped and dropped through the catalogue.

Names of indexes, constraints and views are per schema, so the copy has the names of the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import msgspec

from events import errors, store

FIND = """
select quote_ident(n.nspname), quote_ident(c.relname), c.oid::bigint
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass(%s)
"""

SHAPE = """
select coalesce(string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                                     pg_get_expr(d.adbin, d.adrelid)), ', ' order by a.attnum), '')
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
"""

# Objects that `create table … (like …)` and this module do not copy. They would be lost silently, so a rebuild refuses.
LOST = """
select 'the trigger ' || tgname from pg_trigger where tgrelid = %(oid)s and not tgisinternal
union all select 'the policy ' || polname from pg_policy where polrelid = %(oid)s
union all select 'the publication ' || p.pubname
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where r.prrelid = %(oid)s
union all select 'the sequence ' || objid::regclass from pg_depend
 where refobjid = %(oid)s and classid = 'pg_class'::regclass and deptype in ('a', 'i')
   and objid in (select oid from pg_class where relkind = 'S')
union all select 'the table ' || inhrelid::regclass from pg_inherits where inhparent = %(oid)s
union all select 'the parent ' || inhparent::regclass from pg_inherits where inhrelid = %(oid)s
union all select pg_describe_object(d.classid, d.objid, 0) from pg_depend d join pg_class c on c.reltype = d.refobjid
 where c.oid = %(oid)s and d.refclassid = 'pg_type'::regclass and d.classid = 'pg_proc'::regclass
union all select 'rights on the column ' || attname from pg_attribute where attrelid = %(oid)s and attacl is not null
"""

# The primary key is created with the empty table, because updates look up rows by it; the rest once rows are present.
KEYS = """
select format('alter table %%s add constraint %%I %%s', %(shadow)s::text, conname, pg_get_constraintdef(oid))
  from pg_constraint where conrelid = %(oid)s and contype = 'p'
"""

# `like … including all` leaves out storage parameters such as the fill factor.
STORAGE = """
select format('alter table %%s set (%%s)', %(shadow)s::text, array_to_string(reloptions, ', '))
  from pg_class where oid = %(oid)s and reloptions is not null
"""

RIGHTS = """
select format('alter table %%s owner to %%I', %(shadow)s::text, pg_get_userbyid(relowner))
  from pg_class where oid = %(oid)s
union all
select format('grant %%s on %%s to %%s%%s', x.privilege_type, %(shadow)s::text,
              case when x.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end,
              case when x.is_grantable then ' with grant option' else '' end)
  from pg_class c cross join lateral aclexplode(c.relacl) x where c.oid = %(oid)s
"""

MISSING_CONSTRAINTS = """
select format('alter table %%s add constraint %%I %%s', %(shadow)s::text, conname, pg_get_constraintdef(c.oid))
  from pg_constraint c
 where conrelid = %(oid)s and contype in ('u', 'x')
   and not exists (select 1 from pg_constraint s where s.conrelid = %(shadow)s::regclass and s.conname = c.conname)
"""

MISSING_INDEXES = """
select replace(pg_get_indexdef(i.indexrelid), ' ON ' || %(live)s::text || ' ', ' ON ' || %(shadow)s::text || ' ')
  from pg_index i join pg_class c on c.oid = i.indexrelid
 where i.indrelid = %(oid)s
   and not exists (select 1 from pg_constraint k where k.conindid = c.oid and k.contype in ('p', 'u', 'x'))
   and not exists (
       select 1 from pg_index si join pg_class sc on sc.oid = si.indexrelid
        where si.indrelid = to_regclass(%(shadow)s) and sc.relname = c.relname)
 order by c.relname
"""

UNIQUE_INDEXES = """
select case when k.oid is null then format('drop index %%s', i.indexrelid::regclass)
            else format('alter table %%s drop constraint %%I', %(shadow)s::text, k.conname) end
  from pg_index i left join pg_constraint k on k.conindid = i.indexrelid
 where i.indrelid = %(shadow)s::regclass and i.indisunique and not i.indisprimary
"""

# Views on the table, and views on those, innermost first. Their text names what the search path shows, so that the
# same text with the copy's schema in front makes the same view on the copy.
VIEWS = """
with recursive above (oid, depth) as (
    select %(oid)s::oid, 0
    union
    select w.ev_class, a.depth + 1
      from above a join pg_depend d on d.refobjid = a.oid and d.classid = 'pg_rewrite'::regclass
      join pg_rewrite w on w.oid = d.objid and w.ev_class <> a.oid
)
select quote_ident(n.nspname), quote_ident(c.relname), c.oid::bigint,
       case c.relkind when 'm' then 'materialized view' else 'view' end,
       coalesce('with (' || array_to_string(c.reloptions, ', ') || ') ', '') || 'as ' ||
       rtrim(pg_get_viewdef(c.oid), '; ')
  from (select oid, max(depth) as depth from above where depth > 0 group by oid) a
  join pg_class c on c.oid = a.oid join pg_namespace n on n.oid = c.relnamespace order by a.depth, c.relname
"""

FOREIGN_KEYS = """
select format('%%I.%%I', n.nspname, t.relname), format('%%I.%%I', fn.nspname, f.relname), quote_ident(k.conname),
       regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''), k.convalidated
  from pg_constraint k
  join pg_class t on t.oid = k.conrelid join pg_namespace n on n.oid = t.relnamespace
  join pg_class f on f.oid = k.confrelid join pg_namespace fn on fn.oid = f.relnamespace
 where k.contype = 'f' and %(oid)s in (k.conrelid, k.confrelid) order by 1, 3
"""

# The comment by which `events_discard_copies` recognises a schema of a rebuild.
MARK = "copy of a rebuild"

OWNER = "select quote_ident(pg_get_userbyid(relowner)) from pg_class where oid = %s"

HAS_SHADOW = """
select 1 where to_regclass(%s) is not null and obj_description(to_regnamespace(%s), 'pg_namespace') = %s
"""

ForeignKey: TypeAlias = tuple[str, str, str, str, bool]


class View(msgspec.Struct, frozen=True):
    """A view on the live table; `text` is its definition after the name."""

    schema: str
    name: str
    oid: int
    kind: str
    text: str


class Tables:
    """The live table, its copy in the schema `rebuild_<name>`, and the schema for the old table."""

    def __init__(self, name: str) -> None:
        found = store.query(FIND, (name,))
        if not found:
            raise errors.RebuildRefused(f"There is no table {name}.")
        self.schema, self.table, self.oid = found[0]
        self.name, self.shadow_schema, self.old_schema = name, f"rebuild_{name}", f"rebuild_{name}_old"
        self.live, self.shadow = f"{self.schema}.{self.table}", f"{self.shadow_schema}.{self.table}"
        self.known = {"oid": self.oid, "live": self.live, "shadow": self.shadow}

    def refuse_loss(self) -> None:
        """Raise `RebuildRefused` where the copy would lack an object of the original."""
        lost = [row[0] for row in store.query(LOST, self.known)]
        if lost:
            raise errors.RebuildRefused(f"A rebuild of {self.name} would lose {', '.join(lost)}.")

    def shape(self) -> str:
        """The columns of the live table, as text for comparison."""
        shape: str = store.query(SHAPE, (self.oid,))[0][0]
        return shape

    def has_shadow(self) -> bool:
        return bool(store.query(HAS_SHADOW, (self.shadow, self.shadow_schema, MARK)))

    def make_shadow(self) -> None:
        """Create an empty copy that the live table's owner owns, so that an erasure with their rights can drop it."""
        owner = store.query(OWNER, (self.oid,))[0][0]
        for schema in (self.shadow_schema, self.old_schema):
            run(f"drop schema if exists {schema} cascade")
            run(f"create schema {schema} authorization {owner}")
            run(f"comment on schema {schema} is '{MARK}'")
        run(f"create table {self.shadow} (like {self.live} including all excluding indexes)")
        for query in (STORAGE, KEYS, RIGHTS):
            for statement in store.query(query, self.known):
                run(statement[0])

    @contextmanager
    def only_the_shadow(self, path: str) -> Iterator[None]:
        """Within this context unqualified names resolve to the copy only. An error ends transaction and setting."""
        store.query("select set_config('search_path', %s, true)", (self.shadow_schema,))
        yield
        store.query("select set_config('search_path', %s, true)", (path,))

    @contextmanager
    def shadow_first(self, path: str) -> Iterator[None]:
        """Within this context unqualified names resolve to the copy first, then as usual."""
        store.query("select set_config('search_path', %s, true)", (f"{self.shadow_schema}, {path}",))
        yield

    # -- completing the copy

    def missing(self) -> list[str]:
        """Statements that create what the copy still lacks: constraints, indexes, statistics, views with indexes."""
        made = [row[0] for query in (MISSING_CONSTRAINTS, MISSING_INDEXES) for row in store.query(query, self.known)]
        if made or store.query("select 1 from pg_class where oid = %s::regclass and reltuples < 0", (self.shadow,)):
            made.append(f"analyze {self.shadow}")
        for view in self.views(self.oid):
            made += self._missing_of_view(view)
        return made

    def _missing_of_view(self, view: View) -> list[str]:
        known = {"oid": view.oid, "live": f"{view.schema}.{view.name}", "shadow": f"{self.shadow_schema}.{view.name}"}
        indexes = [row[0] for row in store.query(MISSING_INDEXES, known)]
        if store.query("select 1 where to_regclass(%s) is not null", (known["shadow"],)):
            return indexes
        rights = [row[0] for row in store.query(RIGHTS, known)]
        return [f"create {view.kind} {known['shadow']} {view.text}", *rights, *indexes]

    def views(self, table: int) -> list[View]:
        return [View(*row) for row in store.query(VIEWS, {"oid": table})]

    def unique_indexes(self) -> list[str]:
        """Statements that drop the copy's unique indexes, except the primary key."""
        return [row[0] for row in store.query(UNIQUE_INDEXES, self.known)]

    def drop_unique_indexes(self) -> None:
        for statement in self.unique_indexes():
            run(statement)

    # -- the swap

    def lock(self) -> list[ForeignKey]:
        """Lock this table and those its foreign keys touch, in the order in which writers lock them."""
        keys: list[ForeignKey] = store.query(FOREIGN_KEYS, self.known)
        below = [key[0] for key in keys if key[0] != self.live]
        above = [key[1] for key in keys if key[1] != self.live]
        wanted = dict.fromkeys([*below, self.live, *above])
        run(f"lock table {', '.join(wanted)} in access exclusive mode")
        return store.query(FOREIGN_KEYS, self.known)

    def swap(self, keys: Sequence[ForeignKey]) -> None:
        """Move the copy to the live table's schema, with its foreign keys, which `leftovers` validates later."""
        for table, _, name, _, _ in keys:
            run(f"alter table {table} drop constraint {name}")
        for view in self.views(self.oid):
            run(f"alter {view.kind} {view.schema}.{view.name} set schema {self.old_schema}")
            run(f"alter {view.kind} {self.shadow_schema}.{view.name} set schema {view.schema}")
        run(f"alter table {self.live} set schema {self.old_schema}")
        run(f"alter table {self.shadow} set schema {self.schema}")
        for table, _, name, definition, _ in keys:
            run(f"alter table {table} add constraint {name} {definition} not valid")

    def leftovers(self) -> list[str]:
        """Statements that end a rebuild after the swap; none of them blocks readers or writers."""
        self.oid = store.query(FIND, (self.live,))[0][2]  # the name now refers to the new table
        keys: list[ForeignKey] = store.query(FOREIGN_KEYS, {"oid": self.oid})
        done = [f"alter table {table} validate constraint {name}" for table, _, name, _, valid in keys if not valid]
        old = store.query(FIND, (f"{self.old_schema}.{self.table}",))
        if old:
            done += [f"drop {view.kind} {view.schema}.{view.name}" for view in reversed(self.views(old[0][2]))]
            done.append(f"drop table {self.old_schema}.{self.table}")
        return [*done, *(f"drop schema if exists {schema}" for schema in (self.old_schema, self.shadow_schema))]


def run(statement: str) -> None:
    """Run a statement composed by the database's catalogue."""
    store.execute(statement.replace("%", "%%"))
