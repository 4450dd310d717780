"""The journey of a survey export: dry run, import, repetition, correction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import live
from tests.flows.people import Person

pytestmark = pytest.mark.services

EXPORT = Path(__file__).parents[2] / "docs" / "examples" / "customer-survey.csv"


def test_survey_export_becomes_a_form_with_submissions(
    stack: live.Stack, person: Callable[[str], Person], tmp_path: Path
) -> None:
    manager = person("manager")
    owner = manager.create("user")
    file = tmp_path / "export.csv"
    file.write_text(EXPORT.read_text())

    def run(*options: str) -> dict[str, Any]:
        named = ("--form", "Customer survey", "--owner", f"{owner}@example.org", "--json")
        return dict(json.loads(stack.manage("import_submissions", str(file), *named, *options)))

    def forms() -> list[dict[str, Any]]:
        return list(manager.get(f"forms/?user={owner}")["items"])

    # 1. A dry run decides every command and writes nothing.
    planned = run("--dry-run")
    assert forms() == []

    # 2. The import writes the records that the dry run announced.
    done = run()
    assert (done["added"], done["corrected"]) == (planned["to_add"], planned["to_correct"]) == (6, 0)
    (form,) = forms()
    assert form["title"] == "Customer survey"

    # 3. Its rows are submissions with typed answers.
    submissions = manager.get(f"submissions/?form={form['id']}&limit=100")
    assert submissions["page_info"]["total_count"] == 6
    imported = [set(map(str, item["answers"].values())) for item in submissions["items"]]
    assert [answer for answer in imported if {"A friend", "5", "Nothing, thank you"} <= answer]

    # 4. The same file again adds nothing.
    assert run()["added"] == 0
    assert manager.get(f"submissions/?form={form['id']}")["page_info"]["total_count"] == 6

    # 5. A row that changed is reported, and corrected with --update.
    file.write_text(EXPORT.read_text().replace("A dark theme", "A light theme"))
    assert (run()["added"], run()["corrected"]) == (0, 0)
    assert run("--update")["corrected"] == 1
    answers = [item["answers"] for item in manager.get(f"submissions/?form={form['id']}")["items"]]
    assert [answer for answer in answers if "A light theme" in answer.values()]
