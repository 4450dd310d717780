"""`python -m benchmarks alerts`: judging a slot with 30 rules, while nothing fires and while ten alerts fire.

The reference is one indexed read of 60 slots for each rule, without deciding anything: what any evaluator has to read.
Windows are read from a table of `real[]` rows, one for each slot, like the history. The budget is 1 % of one core: a
median of 50 ms of each five seconds. A second part replays a day of noisy values and counts messages.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import harness

SLOT_BUDGET_MS = 50.0
RULES = 30
SLOTS = 720
TABLE = "create table bench_sample (slot bigint primary key, v real[] not null)"
INSERT = "insert into bench_sample (slot, v) values (%s, %s)"
WINDOW = "select slot, v[%s] from bench_sample where slot > %s and slot <= %s"


class History:
    """Samples in one row for each slot, read as the judge reads them."""

    def __init__(self, names: list[str]) -> None:
        self.positions = {name: number + 1 for number, name in enumerate(names)}

    def window(self, metric: str, seconds: int, until: int, _target: str = "") -> list[float | None]:
        from events import store

        found = dict(store.query(WINDOW, (self.positions.get(metric, 1), until - seconds // 5, until)))
        return [found.get(slot) for slot in range(until - seconds // 5 + 1, until + 1)]

    def targets(self, _slot: int) -> Mapping[str, Mapping[str, float | None]]:
        return {}


def fill(first: int, width: int) -> None:
    from django.db import connection

    chance = random.Random(1)
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
        rows = [(first + n, [chance.uniform(20, 60) for _ in range(width)]) for n in range(SLOTS)]
        cursor.executemany(INSERT, rows)
        cursor.execute("vacuum analyze bench_sample")


def rules(names: list[str]) -> None:
    from backoffice import preconditions
    from events import commands, types
    from metrics.monitoring.alerting.rules import CreateRule

    for number, name in enumerate(names):
        data = CreateRule(title=name, metric=name, warn=80, critical=95, clear=70, for_seconds=60)
        with preconditions.waived("all"):  # of metrics that only this benchmark has
            commands.dispatch(types.Command(id=types.new_id(), key=f"rule_{number}", data=data))


def timed(function: Callable[[], Any], rounds: int) -> dict[str, Any]:
    spent, cpu = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        function()
        spent.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - used))
    return {
        "ms": statistics.median(spent),
        "p95 ms": sorted(spent)[int(0.95 * rounds)],
        "CPU ms": statistics.median(cpu),
    }


def noisy_day() -> dict[str, Any]:
    """Counts the messages of a day of values around the level, by the default rule and by its level alone."""
    import msgspec

    from metrics.monitoring.alerting import defaults, preview
    from metrics.monitoring.alerting.rules import Rule

    values = defaults.RULES["high_cpu"]
    rule = Rule(**{name: getattr(values, name) for name in values.__struct_fields__})
    plain = msgspec.structs.replace(rule, for_seconds=0, keep_seconds=0, clear=None, critical=None)
    chance, value, day = random.Random(1), 0.0, []
    for _ in range(17_280):
        value = 0.9 * value + chance.gauss(0, 4 * (1 - 0.81) ** 0.5)
        day.append(80 + value)
    start = time.perf_counter()
    found = preview.replay(rule, day).messages
    seconds = time.perf_counter() - start
    return {"messages": found, "by the level alone": preview.replay(plain, day).messages, "replay s": seconds}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.alerts")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args(arguments)
    with harness.services():
        from metrics.monitoring.alerting import defaults, judge, models, windows

        names = [f"bench.metric_{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(RULES)]
        slot = judge.present_slot()
        fill(slot - SLOTS + 1, RULES)
        history = History(names)
        windows.register(history.window, history.targets)
        defaults.SEEDED.set()
        rules(names)
        rows = [
            {"case": "30 reads of 60 slots", **timed(lambda: [history.window(n, 300, slot) for n in names], 30)},
            {"case": "judge, nothing fires", **timed(lambda: judge.judge(slot), options.rounds)},
        ]
        models.Rule.objects.filter(pk__in=[f"rule_{n}" for n in range(10)]).update(warn=10, clear=5, for_seconds=0)
        judge.judge(slot)
        rows.append({"case": "judge, ten fire", **timed(lambda: judge.judge(slot + 1), options.rounds)})
    day = noisy_day()
    harness.table("one slot, 30 rules", rows)
    harness.table("a noisy day", [{"case": "AR(0.9) around 80", **day}])
    passed = all(row["ms"] <= SLOT_BUDGET_MS for row in rows[1:]) and day["messages"] <= 3
    harness.save("alerts", {"slot": rows, "noisy day": day, "passed": passed})
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
