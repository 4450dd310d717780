"""The cost of refreshing each materialized view on a large dataset, concurrently and plainly.

The reference is the plain refresh of the same run: the query and a new file. The concurrent one also compares the
result with the rows that are there, and lets readers go on. `python -m benchmarks views --scale 1` uses 1 M users,
3 M forms and 10 M submissions, loaded once (see `dataset`). Processor time of the session is shown beside the duration,
because that depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import dataset, harness

BUDGET_MS: Final = 1_000  # of the processor, for the daily view at 10 M submissions


def plain(name: str) -> None:
    from events import store

    store.execute(f"refresh materialized view {name}")


def concurrent(name: str) -> None:
    from events import store

    store.query("select metrics_refresh_view(%s)", (name,))


def timed(work: Callable[[str], None], name: str) -> tuple[float, float]:
    """Milliseconds of wall time, and of processor time of the connection's session (without parallel workers)."""
    from events import store

    pid = store.query("select pg_backend_pid()")[0][0]
    began, used = time.perf_counter(), _processor_time(pid)
    work(name)
    return (time.perf_counter() - began) * 1000, (_processor_time(pid) - used) * 1000


def _processor_time(pid: int) -> float:
    """Seconds of processor time of a process; 0 where the system does not show it."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(rounds: int) -> list[dict[str, Any]]:
    """Medians of alternating refreshes, and one whole `refresh` as beat runs it."""
    from events import store
    from metrics.materialized import refresh, views

    found = []
    for view in views.VIEWS:
        plain(view.name)  # fills it, and the caches
        taken: dict[str, list[tuple[float, float]]] = {"plain": [], "concurrent": []}
        for _ in range(rounds):
            for way, work in (("plain", plain), ("concurrent", concurrent)):
                taken[way].append(timed(work, view.name))
        began = time.perf_counter()
        outcome = refresh.refresh(view, force=True)
        whole = (time.perf_counter() - began) * 1000
        assert outcome.status == "refreshed", outcome
        assert not outcome.differences, outcome
        medians = {
            way: [statistics.median(one) for one in zip(*measured, strict=True)] for way, measured in taken.items()
        }
        rows = store.query(f"select count(*) from {view.name}")[0][0]
        found.append(
            {
                "view": view.name,
                "rows": rows,
                **{f"{way} ms": round(median[0]) for way, median in medians.items()},
                **{f"{way} CPU ms": round(median[1]) for way, median in medians.items()},
                "ratio": medians["concurrent"][0] / medians["plain"][0],
                "with checks ms": round(whole),
            }
        )
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    dataset.add_arguments(parser, 0.01)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    size = dataset.size_of(options)
    with dataset.database(size, dataset.folder_of(size)):
        found = measure(options.rounds)
    harness.table(f"Refresh with {size.submissions:,} submissions (daily view: at most {BUDGET_MS:,} ms of CPU)", found)
    harness.save("views", {"size": size._asdict(), "views": found})
    return int(found[0]["concurrent CPU ms"] > BUDGET_MS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
