"""The cost of refreshing each materialized view on a large dataset, concurrently and plainly.

The reference is the plain refresh of the same run: the query and a new file. The concurrent one also compares the
result with the rows that are there, and lets readers go on. `python -m benchmarks views --scale 1` uses 1 M users,
3 M forms and 10 M submissions, loaded once (see `dataset`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks import dataset, harness

BUDGET_MS: Final = 1_000  # for the daily view at 10 M submissions


def plain(name: str) -> None:
    from events import store

    store.execute(f"refresh materialized view {name}")


def concurrent(name: str) -> None:
    from events import store

    store.query("select metrics_refresh_view(%s)", (name,))


def milliseconds(work: Callable[[str], None], name: str) -> float:
    began = time.perf_counter()
    work(name)
    return (time.perf_counter() - began) * 1000


def measure(rounds: int) -> list[dict[str, Any]]:
    """Medians of alternating refreshes, and one whole `refresh` as beat runs it."""
    from events import store
    from metrics.materialized import refresh, views

    found = []
    for view in views.VIEWS:
        plain(view.name)  # fills it, and the caches
        taken: dict[str, list[float]] = {"plain": [], "concurrent": []}
        for _ in range(rounds):
            for way, work in (("plain", plain), ("concurrent", concurrent)):
                taken[way].append(milliseconds(work, view.name))
        began = time.perf_counter()
        outcome = refresh.refresh(view, force=True)
        whole = (time.perf_counter() - began) * 1000
        assert outcome.status == "refreshed", outcome
        medians = {way: statistics.median(times) for way, times in taken.items()}
        rows = store.query(f"select count(*) from {view.name}")[0][0]
        found.append(
            {
                "view": view.name,
                "rows": rows,
                **{f"{way} ms": round(ms) for way, ms in medians.items()},
                "ratio": medians["concurrent"] / medians["plain"],
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
    harness.table(f"Refresh with {size.submissions:,} submissions (daily view: at most {BUDGET_MS:,} ms)", found)
    harness.save("views", {"size": size._asdict(), "views": found})
    return int(found[0]["concurrent ms"] > BUDGET_MS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
