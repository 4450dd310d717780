"""Erasing a person in the browser while other people have their pages open."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import command, expect, live_now, new_user, record

pytestmark = [pytest.mark.browser, pytest.mark.services]

# Texts that may be in no page afterwards: as text, in a field or attribute, or in a script's data.
NEEDLES = ("Zoelinde", "Quimper", "zq@", "Cherry jam", "Sourdough", "Barnabas", "rang twice")
EVERYTHING = """() => {
    const typed = [...document.querySelectorAll("input, textarea, select")].map((field) => field.value);
    return [document.title, document.documentElement.outerHTML, ...typed].join("\\n");
}"""


def left_in(page: Any) -> list[str]:
    """Returns the needles that this page still contains."""
    everything = page.evaluate(EVERYTHING)
    return [needle for needle in NEEDLES if needle in everything]


def zoe(page: Any) -> tuple[str, str, str]:
    """Creates a person with a form and an answer to it; returns the three keys."""
    key = new_user(page, first_name="Zoelinde", last_name="Quimper", email=f"zq@{uuid.uuid4()}.example")
    form, answer = str(uuid.uuid4()), str(uuid.uuid4())
    question = {"id": "q", "type": "text", "label": "Sourdough?"}
    command(page, "form.create", form, {"user_id": key, "title": "Cherry jam", "fields": [question]})
    command(page, "submission.receive", answer, {"form_id": form, "answers": {"q": "Barnabas"}})
    command(page, "user.update", key, {"plan": "premium"}, reason="Zoelinde rang twice")
    return key, form, answer


def test_erased_person_disappears_from_every_open_page(new_page: Callable[..., Any], stack: live.Stack) -> None:
    manager = new_page(role="manager", at="")
    key, form, answer = zoe(manager)
    place = f"/admin/backoffice/user/{key}"

    # Others have it open: one types; one views the history, one the form, one the answers.
    agent, reader, helper = (new_page(role=role, at="") for role in ("agent", "viewer", "agent"))
    record(agent, key)
    reader.goto(f"{place}/history/")
    record(manager, form, "form")
    record(helper, answer, "submission")
    shown = {
        agent: "Erased user",
        reader: "dpo erased permanently",
        manager: "Erased form",
        helper: "The answers were erased.",
    }
    for watcher in shown:
        live_now(watcher)
        assert left_in(watcher)
    agent.fill("[name=last_name]", "Quimper, typed")

    # A role without the right sees no button, and the URL refuses it.
    expect(agent.locator(".actions").get_by_role("link")).to_have_text(["History"])
    for page in (agent, reader, manager):
        token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken")
        sent = {"reason": "because", "meant": "on", "command_id": str(uuid.uuid4())}
        for answered in (
            page.request.get(f"{place}/erase/"),
            page.request.post(f"{place}/erase/", form=sent, headers={"X-CSRFToken": token}),
        ):
            assert answered.status == 403
            assert not [needle for needle in NEEDLES if needle in answered.text()]
    assert stack.query("select first_name from users where id = %s", key) == [("Zoelinde",)]

    # A person with the right sees what will be erased, confirms, and erases it.
    officer = new_page(role="dpo", at="")
    record(officer, key)
    officer.get_by_role("link", name="Erase").click()
    expect(officer.locator("h1")).to_have_text("Erase Zoelinde Quimper permanently?")
    goes = ["the record and its 2 versions", "1 form, with its texts", "the answers of 1 submission"]
    expect(officer.locator("[data-goes] li")).to_have_text([*goes, "the reasons given for changes"])
    officer.locator("[name=reason]").fill("Asked by letter, 2026-03-02")
    officer.get_by_role("button", name="Erase permanently").click()
    assert officer.evaluate("document.querySelector(':invalid:not(form)').name") == "meant"
    officer.get_by_label("I understand that this cannot be undone.").press("Space")
    officer.locator("[name=reason]").press("Enter")
    officer.wait_for_url("**/change/")
    expect(officer.locator(".toast")).to_have_text("User was erased.")
    expect(officer.locator("[data-erased]")).to_have_text("Erased just now. The data cannot be read or restored.")
    expect(officer.get_by_role("link", name="Erase")).to_have_count(0)
    assert not left_in(officer)

    # The data disappeared from the open pages, and going back does not restore it.
    for watcher, told in shown.items():
        expect(watcher.locator("main")).to_contain_text(told)
        assert not left_in(watcher)
        watcher.reload()
        expect(watcher.locator("main")).to_contain_text(told)
        assert not left_in(watcher)
    expect(agent.locator("[name=last_name]")).to_have_count(0)
    for address in (f"{place}/history/", f"{place}/history/1/", f"{place}/compare/?a=1&b=2", "/admin/"):
        assert officer.goto(address).status == 200
        assert not left_in(officer), address
    assert officer.goto(f"{place}/erase/").status == 200
    expect(officer.locator(".toast")).to_have_text("This was already erased.")
