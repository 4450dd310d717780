"""Functions that the benchmarks share: temporary services (durable, as in production), tables, results as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@contextlib.contextmanager
def services(folder: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Start a migrated database (fsync on) and a Valkey for this run, unless Django is already set up.

    folder    keeps their data for another run; then they are always started
    settings  of PostgreSQL, in addition to those of development
    """
    import django
    from django.apps import apps

    if apps.ready and folder is None:
        yield
        return
    from devtools.postgres import Postgres
    from devtools.valkey import Valkey

    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="formease-bench-")))
            folder.chmod(0o711)
        os.environ |= {"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "backoffice.settings"}
        started: tuple[tuple[str, Postgres | Valkey], ...] = (
            ("DATABASE_URL", Postgres(folder, settings=settings)),
            ("REDIS_URL", Valkey(folder)),
        )
        for variable, service in started:
            stack.callback(service.stop)
            service.start()
            os.environ[variable] = service.url()
        if not apps.ready:
            django.setup()
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0)
        stack.callback(_close, connections)
        yield


def _close(connections: Any) -> None:
    """Close the connections and their pools, so that the services can be started again."""
    connections.close_all()
    for connection in connections.all():
        connection.close_pool()


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table with their keys as headings, numbers aligned right."""
    print(f"\n{title}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    for line in [names, *cells]:
        padded = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *padded[1:]]))
    sys.stdout.flush()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def save(name: str, result: dict[str, Any]) -> None:
    """Write `results/<name>.json` with the machine and the time."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(about | result, indent=1, default=str) + "\n")
