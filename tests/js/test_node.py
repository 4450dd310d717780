"""The browser modules under Node, if it is installed: their own tests, and their merge compared with the server."""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from events import conflicts
from events.conflicts import rules
from tests.events import test_conflicts as merging
from tests.events.test_merge_cost import a_text_that_divides_line_by_line

HERE = Path(__file__).parent
MERGE = HERE.parents[1] / "backoffice" / "static" / "backoffice" / "merge.js"

TWIN = f"""
import {{ merge }} from {json.dumps(MERGE.as_uri())};
import {{ readFileSync }} from "node:fs";
const {{ policies, options, cases }} = JSON.parse(readFileSync(0, "utf-8"));
console.log(JSON.stringify(cases.map((sides) => merge(...sides, policies, options))));
"""


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node is not installed; the same modules run in the browser tests")
    return found


@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.name)
def test_tests_of_a_module_pass(node: str, file: Path) -> None:
    done = subprocess.run([node, "--test", file], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_browser_merges_random_edits_like_the_server(node: str) -> None:
    rng = random.Random(5)
    cases = [_edits(rng) for _ in range(400)]
    checks = [conflicts.Unique("fields", "label"), conflicts.References("fields", "unknown")]
    options = {"groups": [list(group) for group in merging.GROUPS], "checks": [rules.to_json(rule) for rule in checks]}
    sent = {"policies": conflicts.policies_to_json(merging.TABLE), "options": options, "cases": cases}
    done = subprocess.run(
        [node, "--input-type=module", "--eval", TWIN],
        input=json.dumps(sent), capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    answers = json.loads(done.stdout)
    conflicting = 0
    for sides, answer in zip(cases, answers, strict=True):
        merge = conflicts.merge(*sides, merging.TABLE, merging.GROUPS, checks)
        expected = json.loads(json.dumps(merge.to_dict()))
        for part in ("conflicts", "values", "changed", "notes"):
            assert answer[part] == expected[part], sides
        conflicting += not merge.ok
    assert 100 < conflicting < 400, "edits that meet and edits that do not"


def test_the_browser_merges_orders_and_texts_as_the_server_does(node: str) -> None:
    rng = random.Random(6)
    table = {"options": conflicts.OPTIONS, "text": conflicts.TEXT}
    cases = [_reordered(rng, size) for size in (3, 5, 8, 13, 40) for _ in range(20)]
    base, other = a_text_that_divides_line_by_line(100)
    cases.append(({"text": base}, {"text": other}, {"text": f"{base}\nx"}))
    sent = {"policies": conflicts.policies_to_json(table), "options": {}, "cases": cases}
    done = subprocess.run(
        [node, "--input-type=module", "--eval", TWIN],
        input=json.dumps(sent), capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    for sides, answer in zip(cases, json.loads(done.stdout), strict=True):
        expected = json.loads(json.dumps(conflicts.merge(*sides, table).to_dict()))
        for part in ("conflicts", "values", "changed", "notes"):
            assert answer[part] == expected[part], sides


def _reordered(rng: random.Random, size: int) -> tuple[dict[str, Any], ...]:
    options = [f"option {number}" for number in range(size)]
    return tuple({"options": rng.sample(options, rng.randint(size - 2, size))} for _ in ("base", "theirs", "mine"))


def _edits(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    base = {name: rng.choice(known) for name, known in merging.FIELDS_OF_A_RECORD.items()}
    base["fields"] = [_item(rng, key) for key in "abcdefg"]
    return base, _edited(rng, base, "tuz"), _edited(rng, base, "mnz")


def _item(rng: random.Random, key: str) -> dict[str, Any]:
    chosen = rng.sample(sorted(merging.PROPERTIES), 3)
    return {"id": key, **{name: rng.choice(merging.PROPERTIES[name]) for name in chosen}}


def _edited(rng: random.Random, base: dict[str, Any], new: str) -> dict[str, Any]:
    record = copy.deepcopy(base)
    for name in rng.sample(sorted(merging.FIELDS_OF_A_RECORD), 2):
        record[name] = rng.choice(merging.FIELDS_OF_A_RECORD[name])
    items = record["fields"]
    for place in rng.sample(range(len(items)), 2):
        items[place] = {**items[place], **_item(rng, items[place]["id"])}
    if rng.random() < 0.5:
        items.insert(rng.randrange(len(items)), items.pop(rng.randrange(len(items))))
    if rng.random() < 0.5:
        items.pop(rng.randrange(len(items)))
    items.insert(rng.randrange(len(items)), _item(rng, rng.choice(new)))
    return record
