"""Import plans: times, identities, and every cell kept."""

from __future__ import annotations

import ast
import csv
import gc
import io
import os
import re
import uuid
import weakref
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.sections.imports import dialect, headers, infer, memory, missing, rows
from events import types

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data")) / "surveys"
SAMPLES = {"comma-survey": 1129, "flying-etiquette": 1040, "masculinity-survey": 1615, "star-wars": 1186}
TIMED = "StartDate,EndDate,a\n5/10/18 4:01,5/10/18 4:06,x\n5/13/18 4:01,5/13/18 4:00,y\n,5/14/18 4:00,z\n"


def plan(text: str, **options: Any) -> rows.Plan:
    return rows.plan(text.encode(), **options)


def identities(text: str) -> list[rows.Identity]:
    return [row.identity for row in plan(text).rows]


def sample(name: str) -> bytes:
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"no real exports at {DATA} (SHARED_DATA names another place)")
    return path.read_bytes()


# ── times ──


def test_start_and_end_give_the_completion_time() -> None:
    first = plan(TIMED).rows[0]
    assert first.started_at == datetime(2018, 5, 10, 4, 1, tzinfo=ZoneInfo("UTC"))
    assert first.created_at == datetime(2018, 5, 10, 4, 6, tzinfo=ZoneInfo("UTC"))
    assert (first.completion_time, first.answers) == (300, {"a": "x"})


def test_end_before_the_start_gives_no_duration_and_is_reported_by_line() -> None:
    read = plan(TIMED)
    assert [row.completion_time for row in read.rows] == [300, None, None]
    assert any("line 3" in warning and "before" in warning for warning in read.warnings)


def test_times_without_a_zone_are_in_the_given_zone() -> None:
    first = plan(TIMED, zone=ZoneInfo("Europe/Paris")).rows[0]
    assert first.started_at is not None
    assert first.started_at.isoformat() == "2018-05-10T02:01:00+00:00"


def test_zone_in_the_cell_overrides_the_given_zone() -> None:
    first = plan("Timestamp,a\n2024/01/31 10:00:00 AM GMT+1,x\n", zone=ZoneInfo("Asia/Tokyo")).rows[0]
    assert first.created_at is not None
    assert first.created_at.isoformat() == "2024-01-31T09:00:00+00:00"


@pytest.mark.parametrize("header", ["Horodateur", "Timestamp", "Date Submitted", "Submit Date (UTC)", "EndDate"])
def test_submission_time_is_recognised_by_many_names(header: str) -> None:
    read = plan(f"{header},a\n2024-01-31 10:00:00,x\n")
    assert read.rows[0].created_at == datetime(2024, 1, 31, 10, tzinfo=ZoneInfo("UTC"))
    assert [made.field["id"] for made in read.fields] == ["a"]


def test_dates_without_a_time_under_start_date_are_a_question() -> None:
    read = plan("Start date,a\n2024-01-31,x\n2024-02-01,y\n")
    assert (read.rows[0].started_at, read.rows[0].answers) == (None, {"start_date": "2024-01-31", "a": "x"})


def test_unreadable_time_is_kept_as_text() -> None:
    lines = "".join(f"2024-01-{n:02} 10:00:00,x{n}\n" for n in range(1, 21))
    read = plan(f"EndDate,a\n{lines}soon,y\n")
    assert read.rows[-1].created_at is None
    assert read.rows[-1].answers == {"a": "y", "enddate": "soon"}
    assert read.rows[0].answers == {"a": "x1"}
    assert any("line 22" in warning for warning in read.warnings)


def test_further_timestamps_are_kept_hidden() -> None:
    read = plan("EndDate,RecordedDate,a\n2024-01-31 10:00:00,2024-01-31 10:00:09,x\n")
    assert read.rows[0].answers == {"a": "x", "recordeddate": "2024-01-31T10:00:09Z"}


# ── identity ──


def test_respondent_id_is_the_identity_at_any_position() -> None:
    one = identities("RespondentID,a\n1,x\n2,y\n3,z\n")
    other = identities("RespondentID,a\n3,zz\n1,x\n4,w\n2,y\n")
    assert set(one) <= set(other)
    assert len(set(other)) == 4


def test_content_is_the_identity_without_an_id_and_equal_rows_are_counted() -> None:
    assert len(set(identities("a,b\nx,y\nx,y\nx,z\n"))) == 3
    assert identities("a,b\nx,y\nx,y\n") == identities("a,b\nx,y\nx,y\nx,y\n")[:2]


def test_moved_columns_new_blank_columns_and_row_numbers_change_no_identity() -> None:
    assert identities(",a,b\n1,x,y\n2,p,q\n") == list(reversed(identities(",b,a,c\n7,q,p,\n3,y,x,\n")))


def test_same_text_in_another_encoding_has_the_same_identity() -> None:
    text = "Prénom,Ville\nZoé,Besançon\n"
    assert rows.plan(text.encode("cp1252")).rows[0].identity == rows.plan(text.encode("utf-16")).rows[0].identity


def test_repeated_respondent_is_kept_and_reported() -> None:
    lines = "".join(f"{n},x\n" for n in range(1, 20))
    read = plan(f"RespondentID,a\n{lines}19,y\n")
    assert len({row.identity for row in read.rows}) == 20
    assert any("line 21" in warning for warning in read.warnings)


# ── nothing lost ──


def assert_nothing_lost(data: bytes) -> None:
    sheet = dialect.read(data)
    table = headers.read(sheet)
    missing.mark(table.columns, sheet.delimiter)
    read = rows.plan(data)
    assert [row.line for row in read.rows] == table.lines
    by_letter = {column.letter: column for column in table.columns}
    timed = {column.letter for column in (read.times.start, read.times.end) if column}
    for made in read.fields:
        columns = [by_letter[column.letter] for column in made.columns]
        for at, row in enumerate(read.rows):
            cells = [column.cells[at] for column in columns if column.cells[at] not in column.missing]
            assert_same(cells, row.answers.get(made.field["id"]), made, columns, at)
    covered = {column.letter for made in read.fields for column in made.columns} | timed
    assert covered == by_letter.keys()


def assert_same(cells: list[str], value: Any, made: infer.FieldPlan, columns: list[headers.Column], at: int) -> None:
    match made.field["type"]:
        case _ if made.columns[0].role in ("start", "end"):
            assert value is None or cells
        case "multiple_choice" if len(columns) > 1:
            boxes = [column for column in columns if column.header not in ("q", "Q")] or columns
            ticked = [c.cells[at] for c in boxes if c.cells[at] not in c.missing and c.cells[at].lower() not in OFF]
            assert (value is not None, len(value or [])) == (bool(cells), len(ticked))
        case "multiple_choice":
            cell = cells[0] if cells else ""
            divided = (
                [cell.rstrip(";").split(";"), *(cell.split(mark) for mark in (", ", ",", "\n"))] if cells else [[]]
            )
            assert (value or []) in divided
            assert bool(value) == bool(cells)
        case "matrix" | "ranking":
            assert Counter(map(number_or_text, cells)) == Counter(map(number_or_text, (value or {}).values()))
        case "integer" | "number" | "rating":
            assert [number_or_text(cell) for cell in cells] == ([] if value is None else [value])
        case "boolean":
            assert [cell.lower() for cell in cells] == ([] if value is None else [str(value).lower()])
        case "date" | "datetime":
            days = [sorted(map(int, re.findall(r"\d+", cell)[:3])) for cell in cells]
            assert days == ([] if value is None else [sorted(map(int, value[:10].split("-")))])
        case _:
            assert cells == ([] if value is None else [value])


def number_or_text(value: Any) -> Any:
    try:
        return float(str(value).replace(",", "."))
    except ValueError:
        return value


OFF = {"not selected", "no", "0", "false", "unchecked"}


@pytest.mark.parametrize("name", SAMPLES)
def test_no_cell_of_a_real_export_is_lost(name: str) -> None:
    data = sample(name)
    assert_nothing_lost(data)
    assert len(rows.plan(data).rows) == SAMPLES[name]


def test_real_exports_get_the_expected_fields() -> None:
    types = {
        name: Counter(made.field["type"] for made in rows.plan(sample(name)).fields if not made.field.get("hidden"))
        for name in SAMPLES
    }
    assert types["comma-survey"] == {"single_choice": 12}
    assert types["flying-etiquette"] == {"single_choice": 26}
    assert types["star-wars"] == {"single_choice": 11, "multiple_choice": 1, "ranking": 1, "matrix": 1}
    assert types["masculinity-survey"] == {"single_choice": 25, "multiple_choice": 9, "matrix": 1, "number": 1}


CELL = st.sampled_from(
    ["", "", "Yes", "No", "NA", "N/A", "-", "1", "2", "3.5", "1,5", "2024-01-02", "13/02/2024", "02/13/2024 4:05 PM",
     "Not selected", "Red", "Blue", "Red, Blue", "Red;Blue;", "No answer", "None", "a\nb", "x@y.zz", "007", "true", "é",
     "2024-03-01 10:00:01", "2024-03-02 11:30:00 CET", "Checked", "Unchecked", "Red,Blue", "1.10", "1.1"]
)  # fmt: skip
HEADER = st.sampled_from(
    ["a", "a", "q_1", "q_2", "q_3", "Q [A]", "Q [B]", "Own: Car", "Own: Bike", "RespondentID", "StartDate", "EndDate",
     "Timestamp", "", "IP Address", "Comment", "Response", "x___1", "x___2", "q", "q/a", "q/b", "R >> a", "R >> b",
     "S (choice=a)", "S (choice=b)", "Отметка времени", "submitdate"]
)  # fmt: skip


@given(st.data(), st.integers(1, 6), st.integers(1, 8), st.sampled_from(",;\t"))
def test_no_cell_of_any_table_is_lost(data: st.DataObject, width: int, height: int, delimiter: str) -> None:
    """Includes columns that nearly look like one question: every plan contains each answer."""
    table = [data.draw(st.lists(HEADER, min_size=width, max_size=width))]
    table += [data.draw(st.lists(CELL, min_size=width, max_size=width)) for _ in range(height)]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(table)
    raw = out.getvalue().encode()
    try:
        rows.plan(raw)
    except dialect.Refused:
        return
    assert_nothing_lost(raw)


def test_row_above_the_size_limit_is_refused_before_any_write() -> None:
    with pytest.raises(dialect.Refused) as caught:
        plan(f"a,b\nx,y\nz,{'w' * 1_100_000}\n")
    assert caught.value.line == 3


# Modules of an import that read or write the database.
WITH_DATABASE = {"section", "models", "run", "destinations", "checks", "content", "identity", "suppressions"}


def test_reader_imports_neither_django_nor_the_database() -> None:
    for path in (ROOT / "backoffice" / "sections" / "imports").glob("*.py"):
        if path.stem in WITH_DATABASE:
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in froms]
        ours = [
            name for name in names if name.split(".")[0] in ("django", "events", "psycopg", "backoffice", "realtime")
        ]
        assert {name.rpartition(".")[0] or name for name in ours} <= {
            "backoffice",
            "backoffice.sections",
            "backoffice.sections.imports",
        }, path
        imported = {name.rpartition(".")[2] for name in ours}
        imported |= {alias.name for node in froms if node.module in ours for alias in node.names}
        assert not imported & WITH_DATABASE, path


def test_garbage_collector_is_restored_after_any_end_of_reading() -> None:
    def collector() -> tuple[bool, int]:
        return gc.isenabled(), gc.get_freeze_count()

    before = collector()
    assert plan("a,b\n1,2\n").rows
    assert collector() == before
    with pytest.raises(dialect.Refused):
        plan("")
    assert collector() == before
    gc.disable()
    try:
        plan("a,b\n1,2\n")
        assert not gc.isenabled(), "whoever switched it off finds it off"
    finally:
        gc.enable()
    with pytest.raises(KeyboardInterrupt), memory.gc_frozen():
        raise KeyboardInterrupt
    assert collector() == before


def test_garbage_of_a_chunk_is_freed_before_the_next() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    with memory.gc_frozen() as tidy:
        left = weakref.ref(Cycle())
        assert left() is not None, "nothing looks for it by itself"
        tidy()
        assert left() is None


@pytest.mark.parametrize("name", ["", "receive", "a\x1fb", "Zoë’s form 🎈", "x" * 5_000])
def test_ids_by_name_are_those_of_the_standard_library(name: str) -> None:
    for namespace in (uuid.NAMESPACE_DNS, uuid.uuid4()):
        assert types.named_id(namespace, name) == uuid.uuid5(namespace, name)
