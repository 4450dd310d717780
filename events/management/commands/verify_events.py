"""`manage.py verify_events`: check that the log is unchanged and readable. Exit code 1 when it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from events import errors, head
from events.integrity import export, proofs, verify
from events.integrity.proofs import Proof
from events.integrity.report import END, VerificationReport
from events.integrity.seals import Seal

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Read every event and verify that it is unchanged: hashes of rows, chains of streams, seals of ranges. Names "
        "the first row that was altered, removed or inserted. With --seals, seals kept elsewhere take precedence over "
        "those in the database; with --events and --seals, files are checked without a database."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--stream", help="only this stream, such as user-<id>")
        parser.add_argument("--from", type=int, default=1, dest="first", metavar="POSITION", help="the first to check")
        parser.add_argument("--to", type=int, dest="last", metavar="POSITION", help="the last to check")
        parser.add_argument("--seals", type=Path, metavar="FILE", help="seals that `seal_events --export` wrote")
        parser.add_argument("--events", type=Path, metavar="FILE", help="events that `seal_events --events` wrote")
        parser.add_argument("--proof", type=Path, metavar="FILE", help="check the proof of one event (with --seals)")
        parser.add_argument(
            "--archived", action="store_true", help="positions that no partition holds were archived on purpose"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        _check_options(options)
        try:
            if options["proof"]:
                return self._proof(options["proof"], options["seals"], options["json"])
            report = _report(options)
        except errors.EventsError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None
        self.stdout.write(json.dumps(report.to_dict()) if options["json"] else text(report, options))
        if not report.ok or report.unreadable:
            sys.exit(1)
        return None

    def _proof(self, file: Path, kept: Path, as_json: bool) -> None:
        """Check the proof of one event against the seals of a file."""
        proved = next(export.read_lines(file, Proof), None)
        if proved is None:
            raise CommandError(f"{file} holds no proof.")
        against = next((seal for seal in export.read_lines(kept, Seal) if seal.number == proved.seal), None)
        if against is None:
            raise CommandError(f"{kept} holds no seal {proved.seal}.")
        ok, event = proofs.check(proved, against), proved.event
        where = f"position {event.position}, {event.stream} version {event.version}"
        line = f"{'OK' if ok else 'FAILED'}: {where} is {'' if ok else 'not '}in seal {proved.seal}"
        self.stdout.write(json.dumps({"ok": ok, "seal": proved.seal, "position": event.position}) if as_json else line)
        if not ok:
            sys.exit(1)


def _check_options(options: dict[str, Any]) -> None:
    if options["events"] and not options["seals"]:
        raise CommandError("--events needs --seals: without seals a file proves nothing.")
    if options["proof"] and not options["seals"]:
        raise CommandError("--proof needs --seals.")
    ranged = options["first"] != 1 or options["last"] is not None
    if options["stream"] and (options["seals"] or options["events"] or ranged):
        raise CommandError("--stream cannot be combined with files or ranges.")
    if options["first"] < 1 or (options["last"] is not None and options["last"] < options["first"]):
        raise CommandError("--from and --to are positions from 1, and --from is not after --to.")


def _report(options: dict[str, Any]) -> VerificationReport:
    if options["stream"]:
        return verify.verify_stream(options["stream"])
    after, upto = options["first"] - 1, options["last"]
    reached, total = after, None
    if not options["events"]:
        total = max(0, min(upto or END, head.safe()) - after)
    with tqdm(desc="verify", unit=" positions", total=total, disable=None) as bar:

        def progress(position: int) -> None:
            nonlocal reached
            bar.update(max(0, position - reached))
            reached = max(reached, position)

        if options["events"]:
            return verify.verify_files(options["events"], options["seals"], after, upto, progress=progress)
        return verify.verify(after, upto, kept=options["seals"], archived=options["archived"], progress=progress)


# -- text output ------------------------------------------------------------------------------------------------------


def text(report: VerificationReport, options: dict[str, Any]) -> str:
    """The result, the first findings, and the limits of the check."""
    found = report.findings()
    if found:
        lines = [f"FAILED: {found[0]}"]
        if report.total > 1:
            lines.append(f"and {report.total - 1} more:")
            lines += [f"  {finding}" for finding in found[1:SHOWN]]
        if report.total > SHOWN:
            lines.append("  …")
    else:
        lines = ["OK: nothing was altered, removed or inserted"]
    if report.unreadable:
        lines.append(f"UNREADABLE: {report.unreadable} events cannot be read by this release:")
        lines += [f"  {event}" for event in report.unread[:SHOWN]]
    return "\n".join([*lines, *_limits(report, options)])


def _limits(report: VerificationReport, options: dict[str, Any]) -> list[str]:
    sealed = "each row compared with the print in its seal" if options["stream"] else f"{report.seals} seals rebuilt"
    lines = [f"{report.events} events read; {sealed}, up to position {report.sealed_upto}"]
    if report.unsealed:
        lines.append(
            f"{report.unsealed} events are not sealed: only their streams' chains cover them, and a chain does not "
            "show that the last events of a stream were removed or rewritten together with its head"
        )
    if report.partial:
        lines.append(
            f"{report.partial} seals were checked in part, row by row: not all of their positions are available"
        )
    if report.removed:
        lines.append(f"{report.removed} events were removed, and the removal is recorded: see the streams removal-…")
    if report.unlinked:
        lines.append(
            f"{report.unlinked} streams begin in a part that is not available: their first event checked is unlinked"
        )
    lines += [f"positions {low} to {high} are not in the database: check their archive" for low, high in report.absent]
    return lines
