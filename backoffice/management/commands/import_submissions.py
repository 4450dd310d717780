"""`manage.py import_submissions FILE.csv --form TITLE --owner EMAIL`: imports a survey export."""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone
from tqdm import tqdm

from backoffice.sections.imports import dialect, rows, run
from backoffice.sections.imports.destinations import Destination, ImportRejected
from backoffice.sections.imports.headers import Column
from events import errors

_ABOUT = """\
Import a CSV export of any survey tool: one form with typed fields inferred from the answers, one submission per row.

The whole file is read and checked before the first write, in a dry run too. A value that cannot be read or stored is
reported with line and column, and nothing is written. Another run, after an interruption or with more rows, adds only
the missing rows.

Rows are recognised by the submission's own id, else by the respondent's, else by their content; a form keeps the column
that its first import used. Existing and deleted submissions are kept. Rows of existing submissions with other
content are reported with their lines, and corrected with --update. Rows of erased submissions are not imported again.

Encoding, delimiter, header rows and the order of day and month are detected. UTF-8 is tried first, then the code pages
of all scripts; --encoding overrides this. Dates such as 4/5/2024 that fit both orders are month/day, or day/month in
files with semicolons, unless another column decides. Times without a zone are in the TIME_ZONE of the settings.

If the form exists, changes by staff are kept and answers are read under its fields' types. New questions are added at
its end. If staff removed a field, or answers have another shape than its field, the import is refused and names the
fields.
"""


class Command(BaseCommand):
    help = _ABOUT

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        if not isinstance(parser.formatter_class, RawDescriptionHelpFormatter):
            parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the export")
        parser.add_argument("--form", required=True, metavar="TITLE", help="title of the form to create or extend")
        parser.add_argument("--owner", required=True, metavar="EMAIL", help="e-mail address of the form's owner")
        parser.add_argument("--encoding", help="such as utf-8, cp1252, latin-1, utf-16")
        parser.add_argument("--update", action="store_true", help="correct submissions whose row has other content now")
        parser.add_argument("--archived", action="store_true", help="import into the form even if it is archived")
        parser.add_argument("--dry-run", action="store_true", help="check the file and show the form; write nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *, file: Path, form: str, owner: str, encoding: str | None, **options: Any) -> None:
        plan = _read(file, encoding)
        try:
            found = run.destination(plan, form, owner, update=options["update"], archived=options["archived"])
            added = 0 if options["dry_run"] else _write(plan, found, file, archived=options["archived"])
        except (ImportRejected, errors.EventsError, DatabaseError, psycopg.Error, ValueError) as error:
            raise CommandError(f"{file.name}: {error}") from None
        if options["json"]:
            self.stdout.write(json.dumps(_summary(plan, found, added, options["dry_run"]), ensure_ascii=False))
        else:
            self._report(plan, found, added, dry_run=options["dry_run"])

    def _report(self, plan: rows.Plan, found: Destination, added: int, *, dry_run: bool) -> None:
        if dry_run:
            for line in _table(plan):
                self.stdout.write(line)
        for warning in (*plan.warnings, *found.warnings):
            self.stderr.write(f"note: {warning}", self.style.WARNING)
        total, there, corrected = len(plan.rows), found.known, len(found.changed)
        if dry_run:
            verb = "extend" if found.version else "create"
            self.stdout.write(f"Would {verb} the form “{found.title}” with {len(plan.fields)} fields.")
            text = f"Would add {len(found.fresh)} of {total} submissions; {there} are there already."
            also = f" Would correct {corrected} of them." if corrected else ""
            self.stdout.write(f"{text}{also} Nothing was written.")
        else:
            also = f", {corrected} of them corrected" if corrected else ""
            self.stdout.write(
                f"“{found.title}”: {added} of {total} submissions added, {there} were there already{also}."
            )


def _read(file: Path, encoding: str | None) -> rows.Plan:
    try:
        return rows.plan(file.read_bytes(), encoding, timezone.get_default_timezone())
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except dialect.Refused as error:
        raise CommandError(f"{file.name}: {error}") from None


def _write(plan: rows.Plan, found: Destination, file: Path, *, archived: bool) -> int:
    total = len(found.fresh) + len(found.changed)
    quiet = None if total else True  # None: progress is shown only on a terminal
    bar = tqdm(total=total, unit=" submissions", desc=file.name, disable=quiet)
    written = 0

    def report_progress(size: int) -> None:
        nonlocal written
        written += size
        bar.update(size)

    try:
        with bar:
            description = f"Imported from {file.name}"
            return run.carry_out(plan, found, description, report_progress, source=file.name, archived=archived)
    except KeyboardInterrupt:
        raise CommandError(_stopped(file, "interrupted", written, total)) from None
    except (errors.EventsError, DatabaseError, psycopg.Error) as error:
        raise CommandError(_stopped(file, str(error).strip(), written, total)) from None


def _stopped(file: Path, reason: str, written: int, total: int) -> str:
    return (
        f"{file.name}: {reason}. At least {written} of {total} submissions were written and stay; run the same command "
        "again to write the others."
    )


def _summary(plan: rows.Plan, found: Destination, added: int, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "form": {"id": str(found.form_id), "title": found.title, "exists": found.version > 0},
        "encoding": plan.encoding,
        "delimiter": plan.delimiter,
        "header_rows": plan.header_rows,
        "fields": [made.field | {"columns": [column.letter for column in made.columns]} for made in plan.fields],
        "times": {name: column.letter for name, column in _times(plan).items() if column},
        "respondent": found.by.letter if found.by else None,
        "missing": dict(plan.missing),
        "rows": len(plan.rows),
        "already_there": found.known,
        "to_correct" if dry_run else "corrected": len(found.changed),
        "erased": len(found.erased),
        "to_add" if dry_run else "added": len(found.fresh) if dry_run else added,
        "warnings": [*plan.warnings, *found.warnings],
    }


def _times(plan: rows.Plan) -> dict[str, Column | None]:
    """Returns the columns of times: `finished_at` ends the completion time, `created_at` is the upload."""
    return {"started_at": plan.times.start, "finished_at": plan.times.finished, "created_at": plan.times.end}


def _table(plan: rows.Plan) -> list[str]:
    """Returns the lines of a dry run: columns, type, label and options of each field."""
    named = {"\t": "tab"}.get(plan.delimiter, plan.delimiter)
    lines = [f"{plan.encoding}, delimiter {named}, {plan.header_rows} header row(s), {len(plan.rows)} rows"]
    for made in plan.fields:
        columns = [column.letter for column in made.columns]
        where = columns[0] if len(columns) == 1 else f"{columns[0]}–{columns[-1]}"
        hidden = " (hidden)" if made.field.get("hidden") else ""
        lines.append(f"  {where:<7} {made.field['type']:<16} {made.field['label']}{hidden}")
        lines += [f"{'':26}- {row['label']}" for row in made.field.get("rows", ())]
        if made.field["options"]:
            lines.append(f"{'':26}{_shortened(made.field['options'])}")
    for name, column in _times(plan).items():
        if column:
            lines.append(f"  {column.letter:<7} {name:<16} {column.label}")
    lines += [f"  {column.letter:<7} dropped: blank" for column in plan.dropped]
    lines += [f"  “{marker}” read as no answer in {n} cells" for marker, n in sorted(plan.missing.items())]
    return lines


def _shortened(options: list[Any]) -> str:
    shown = " | ".join(str(option) for option in options[:12])
    return f"{shown} | … ({len(options)})" if len(options) > 12 else shown
