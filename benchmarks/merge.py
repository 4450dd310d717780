"""The time of a three-way merge: two people edit one form of 200 fields.

Each result is the median CPU time of repeated runs, beside a deep copy of the same form in the same run. On another or
busier machine the milliseconds differ, but hardly their ratio.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from events import conflicts

FIELDS = 200
BUDGET_MS = 5.0
TABLE = {
    "settings": conflicts.OBJECT,
    "fields": conflicts.KeyedList(item_policies={"options": conflicts.OPTIONS, "help": conflicts.TEXT}, unique="name"),
}
CHECKS = (conflicts.References("fields", "if"), conflicts.Acyclic("fields"))


def form() -> dict[str, Any]:
    """A form in the format that the product stores."""
    fields = [
        {
            "id": f"q{number:03}",
            "name": f"name_{number}",
            "type": ("text", "radio", "date")[number % 3],
            "label": f"Question {number}",
            "help": "First line\nSecond line\nThird line",
            "required": number % 2 == 0,
            "page": number // 10,
            "options": [{"value": str(value), "label": f"Choice {value}"} for value in range(4)],
            "show": {"if": f"q{number - 1:03}"} if number % 5 == 4 else {},
        }
        for number in range(FIELDS)
    ]
    return {"title": "A long form", "settings": {"theme": "plain", "mail": {"to": "a@b"}}, "fields": fields}


def touched(base: dict[str, Any], start: int) -> dict[str, Any]:
    """Make a typical edit: ten fields reworded, one moved, one added."""
    record: dict[str, Any] = copy.deepcopy(base)
    fields = record["fields"]
    for place in range(start, FIELDS, FIELDS // 10):
        fields[place]["label"] += " (revised)"
    fields.insert(start * 40, fields.pop(150 + start))
    fields.append({"id": f"new{start}", "name": f"new_{start}", "type": "text", "label": "New"})
    return record


def edited(base: dict[str, Any], start: int, step: int) -> dict[str, Any]:
    """Make a large edit: labels, help and options of a third of the fields rewritten, some fields moved, one added."""
    record: dict[str, Any] = copy.deepcopy(base)
    fields = record["fields"]
    for place in range(start, FIELDS - 20, 5):
        fields[place]["label"] += " (revised)"
        fields[place]["options"][start]["label"] += "!"
        fields[place]["help"] = fields[place]["help"].replace(("First", "Third")[start], "New")
    for place in range(FIELDS - 20 + start, FIELDS - 10, step):
        fields.insert(place // 2, fields.pop(place))
    fields.append({"id": f"new{start}", "name": f"new_{start}", "type": "text", "label": "New"})
    record["settings"]["theme" if start else "lang"] = "new"
    return record


def median_ms(run: Callable[[], object], times: int = 30) -> float:
    run()
    taken = []
    for _ in range(times):
        started = time.process_time()
        run()
        taken.append((time.process_time() - started) * 1000)
    return statistics.median(taken)


def measure() -> list[dict[str, Any]]:
    """One row per case: name, milliseconds, and the multiple of a deep copy of the form."""
    base = form()
    small = copy.deepcopy(base)
    small["fields"][7]["label"] = "Mine"
    one, two = touched(base, 1), touched(base, 2)
    theirs, mine = edited(base, 0, 4), edited(base, 1, 3)
    backwards = {**base, "fields": base["fields"][::-1]}
    cases: dict[str, Callable[[], object]] = {
        "deep copy of the form": lambda: copy.deepcopy(base),
        "two words changed": lambda: conflicts.merge(base, edited_title, small, TABLE, (), CHECKS),
        "two sittings: ten fields, a move, an insert": lambda: conflicts.merge(base, one, two, TABLE, (), CHECKS),
        "a third of the form rewritten on both sides": lambda: conflicts.merge(base, theirs, mine, TABLE, (), CHECKS),
        "one reversed the form, one moved ten": lambda: conflicts.merge(base, backwards, mine, TABLE, (), CHECKS),
        "history: what changed": lambda: conflicts.diff(base, theirs, TABLE),
    }
    edited_title = copy.deepcopy(base) | {"title": "Theirs"}
    taken = {name: median_ms(run) for name, run in cases.items()}
    copied = taken["deep copy of the form"]
    return [{"case": name, "ms": round(ms, 3), "ratio": round(ms / copied, 2)} for name, ms in taken.items()]


def main() -> int:
    rows = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps({"fields": FIELDS, "budget_ms": BUDGET_MS, "rows": rows}, indent=1))
    else:
        print(f"Three-way merge of a form with {FIELDS} fields (budget {BUDGET_MS:g} ms)")
        print(f"{'case':<46}{'ms':>10}{'× deep copy':>14}")
        for row in rows:
            print(f"{row['case']:<46}{row['ms']:>10.3f}{row['ratio']:>14.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
