"""Typing in Chromium while a second person saves: by key, with an input method, after offline edits."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.input_method import InputMethod
from tests.browser.second_person import SecondPerson
from tests.browser.test_admin import command, live_now, new_user, record
from tests.browser.test_offline import save, save_offline
from tests.events import interleaving

pytestmark = [pytest.mark.browser, pytest.mark.services]

REPEATED = 6 if interleaving.LONG else 1  # the long form types for a minute
ANNOUNCEMENTS = """() => {
  window.announced = [];
  const isLive = (node) => (node instanceof Element ? node : node.parentElement)?.closest(
    "[aria-live]:not([aria-live=off]), [role=status], [role=alert]");
  new MutationObserver((changes) => {
    for (const region of new Set(changes.map(({ target }) => isLive(target)).filter(Boolean))) {
      if (!region.hidden && region.textContent.trim()) window.announced.push(region.textContent.trim());
    }
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def new_form(page: Any, **data: Any) -> str:
    key = str(uuid.uuid4())
    command(page, "form.create", key, {"user_id": new_user(page), "title": "Survey", **data})
    return key


def opened(page: Any, key: str, category: str = "form") -> None:
    record(page, key, category)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    live_now(page)


def put_caret(field: Any, at: int) -> None:
    field.evaluate("(field, at) => { field.focus(); field.setSelectionRange(at, at); }", at)


def caret(field: Any) -> list[int]:
    found: list[int] = field.evaluate("(field) => [field.selectionStart, field.selectionEnd]")
    return found


def another_change(field: Any, before: str) -> None:
    """Waits until the first line of the field differs from that of `before`."""
    expect(field).not_to_have_value(re.compile(f"^{re.escape(before.split(chr(10), maxsplit=1)[0])}\n"))


# -- merging while somebody types -------------------------------------------------------------------------------------


def test_text_typed_while_another_person_saves_every_300_ms_is_exact(
    manager: Any, agent: Any, other: SecondPerson, stack: live.Stack
) -> None:
    """Each letter is typed after a change arrived in the same field, before and behind the caret."""
    key = new_form(manager, description="0\n\nmiddle: \n\nend")
    opened(agent, key)
    description = agent.locator("[name=description]")
    put_caret(description, len("0\n\nmiddle: "))
    typed = " ".join(["exactly these words"] * REPEATED)

    def theirs(number: int) -> dict[str, Any]:
        return {"description": f"{number} {'x' * (number % 7)}\n\nmiddle: \n\nend {number}"}

    with other.saving("form.update", key, theirs):
        for letter in typed:
            before = description.input_value()
            agent.keyboard.type(letter)
            another_change(description, before)
    ((saved,),) = stack.query("select description from forms where id = %s", key)
    expect(description).to_have_value(saved.replace("middle: ", f"middle: {typed}"))
    assert agent.locator("[data-theirs]:visible").count() == 0
    agent.click("[data-save]")
    expect(agent.locator(".toast")).to_contain_text("Saved as version")
    assert stack.query("select description from forms where id = %s", key) == [
        (saved.replace("middle: ", f"middle: {typed}"),)
    ]


def test_japanese_typed_while_another_person_saves_every_300_ms_is_exact(
    manager: Any, agent: Any, other: SecondPerson, stack: live.Stack
) -> None:
    key = new_form(manager, description="0\n-\n\n-\nend", fields=[{"id": "a", "type": "text", "label": "A"}])
    opened(agent, key)
    description = agent.locator("[name=description]")
    put_caret(description, len("0\n-\n"))
    method = InputMethod(agent)

    def theirs(number: int) -> dict[str, Any]:
        return {"description": f"{number}\n-\n\n-\nend {number}", "title": f"Survey {number}"}

    with other.saving("form.update", key, theirs):
        for kana, chosen in (("にほん", "日本"), ("ご", "語"), ("にゅうりょく", "入力")) * REPEATED:
            for length in range(1, len(kana) + 1):
                method.compose(kana[:length])
                assert other.saves.acquire(timeout=20)  # a change arrives during the composition
            method.compose(chosen)
            before = description.input_value()
            method.commit(chosen)
            another_change(description, before)
    ((saved,),) = stack.query("select description from forms where id = %s", key)
    expect(description).to_have_value(saved.replace("\n\n", f"\n{'日本語入力' * REPEATED}\n"))


def test_change_by_others_in_the_focused_field_keeps_selection_and_undo(
    manager: Any, agent: Any, other: SecondPerson
) -> None:
    key = new_form(manager, description="first\n\nsecond line\n\nthird")
    opened(agent, key)
    description = agent.locator("[name=description]")
    put_caret(description, len("first\n\nsecond"))
    agent.keyboard.type(" typed")
    other.save("form.update", key, {"description": "first, longer\n\nsecond line\n\nthird, longer"})
    expect(description).to_have_value("first, longer\n\nsecond typed line\n\nthird, longer")
    assert caret(description) == [len("first, longer\n\nsecond typed")] * 2
    agent.keyboard.press("Control+z")
    expect(description).to_have_value("first, longer\n\nsecond line\n\nthird, longer")
    assert caret(description) == [len("first, longer\n\nsecond")] * 2
    agent.keyboard.press("Control+z")
    expect(description).to_have_value("first, longer\n\nsecond line\n\nthird, longer")
    agent.keyboard.press("Control+Shift+z")
    expect(description).to_have_value("first, longer\n\nsecond typed line\n\nthird, longer")


def test_change_of_an_untouched_field_keeps_its_selection(manager: Any, agent: Any, other: SecondPerson) -> None:
    key = new_user(manager, first_name="Ada Maria")
    opened(agent, key, "user")
    name = agent.locator("[name=first_name]")
    name.evaluate("(field) => { field.focus(); field.setSelectionRange(4, 9); }")
    other.save("user.update", key, {"first_name": "Augusta Ada Maria"})
    expect(name).to_have_value("Augusta Ada Maria")
    assert caret(name) == [12, 17]


def test_question_that_is_edited_keeps_composition_caret_and_undo(
    manager: Any, agent: Any, other: SecondPerson
) -> None:
    fields = [{"id": f"q-1e{name}", "type": "text", "label": f"Question {name}"} for name in "ab"]  # not a number
    key = new_form(manager, fields=fields)
    opened(agent, key)
    agent.locator(".opener").nth(1).click()
    label = agent.get_by_label("Question", exact=True)
    label.evaluate("(field) => { field.focus(); field.setSelectionRange(0, 0); field.dataset.same = '1'; }")
    method = InputMethod(agent)
    method.compose("に")
    with agent.expect_response("**/live/**"):
        other.save("form.update", key, {"fields": [{**fields[0], "label": "Theirs"}, {**fields[1], "help": "Help"}]})
    method.compose("にほん")
    expect(agent.locator(".opener").first).not_to_contain_text("Theirs")
    method.commit("日本")
    expect(agent.locator(".opener").first).to_contain_text("Theirs")
    expect(agent.get_by_label("Help")).to_have_value("Help")
    expect(label).to_have_value("日本Question b")
    expect(label).to_be_focused()
    expect(label).to_have_attribute("data-same", "1")
    assert caret(label) == [2, 2]
    agent.keyboard.press("Control+z")
    expect(label).to_have_value("Question b")


# -- own edits that are saved -----------------------------------------------------------------------------------------


def test_page_takes_the_merged_state_of_its_own_offline_edit(
    manager: Any, agent: Any, other: SecondPerson, stack: live.Stack
) -> None:
    key = new_form(manager, description="one\ntwo\nthree")
    opened(agent, key)
    save_offline(agent, description="one\ntwo\nthree, mine")
    other.save("form.update", key, {"description": "one, theirs\ntwo\nthree"})
    agent.context.set_offline(False)
    merged = "one, theirs\ntwo\nthree, mine"
    expect(agent.locator("[name=description]")).to_have_value(merged)
    expect(agent.locator("[name=base_version]")).to_have_value("3")
    expect(agent.locator("[data-queued]")).to_be_hidden()
    assert agent.locator("[data-theirs]:visible").count() == 0
    expect(agent.locator("[data-unsaved]")).to_be_hidden()
    save(agent, title="Next edit")
    expect(agent.locator(".toast").last).to_contain_text("Saved as version 4")
    assert stack.query("select title, description from forms where id = %s", key) == [("Next edit", merged)]


def test_typing_on_top_of_an_offline_edit_merges_when_that_was_saved(
    manager: Any, agent: Any, other: SecondPerson, stack: live.Stack
) -> None:
    key = new_form(manager, description="one\n\ntwo\n\nthree")
    opened(agent, key)
    save_offline(agent, description="one\n\ntwo\n\nthree, mine")
    description = agent.locator("[name=description]")
    put_caret(description, len("one\n\ntwo"))
    agent.keyboard.type(", typed since")
    other.save("form.update", key, {"description": "one, theirs\n\ntwo\n\nthree"})
    agent.context.set_offline(False)
    merged = "one, theirs\n\ntwo, typed since\n\nthree, mine"
    expect(description).to_have_value(merged)
    expect(agent.locator("[name=base_version]")).to_have_value("3")
    assert agent.locator("[data-theirs]:visible").count() == 0
    agent.click("[data-save]")
    expect(agent.locator(".toast").last).to_contain_text("Saved as version 4")
    assert stack.query("select description from forms where id = %s", key) == [(merged,)]


def test_update_that_overtakes_the_verdict_on_an_offline_edit_is_no_conflict(
    manager: Any, agent: Any, other: SecondPerson
) -> None:
    key = new_form(manager, description="one\ntwo\nthree")
    opened(agent, key)
    save_offline(agent, description="one\ntwo\nthree, mine")
    other.save("form.update", key, {"description": "one, theirs\ntwo\nthree"})
    held: list[Callable[[], None]] = []

    def hold(route: Any) -> None:
        answer = route.fetch()
        held.append(lambda: route.fulfill(response=answer))

    agent.route("**/sync/", hold)
    agent.context.set_offline(False)
    expect(agent.locator("[data-record]")).to_have_attribute("data-version", "3")
    expect(agent.locator("[name=description]")).to_have_value("one\ntwo\nthree, mine")
    expect(agent.locator("[name=base_version]")).to_have_value("1")
    assert agent.locator("[data-theirs]:visible").count() == 0
    held[0]()
    expect(agent.locator("[name=description]")).to_have_value("one, theirs\ntwo\nthree, mine")
    expect(agent.locator("[name=base_version]")).to_have_value("3")
    assert agent.locator("[data-theirs]:visible").count() == 0


def test_keep_mine_keeps_other_lines_that_others_changed(
    manager: Any, agent: Any, other: SecondPerson, stack: live.Stack
) -> None:
    key = new_form(manager, description="one\n\ntwo\n\nthree")
    opened(agent, key)
    agent.fill("[name=description]", "one\n\ntwo, mine\n\nthree")
    other.save("form.update", key, {"description": "one, theirs\n\ntwo, theirs\n\nthree"})
    agent.get_by_role("button", name="Keep mine").click()
    expect(agent.locator("[name=description]")).to_have_value("one, theirs\n\ntwo, mine\n\nthree")
    agent.click("[data-save]")
    expect(agent.locator(".toast").last).to_contain_text("Saved as version 3")
    assert stack.query("select description from forms where id = %s", key) == [("one, theirs\n\ntwo, mine\n\nthree",)]


# -- questions --------------------------------------------------------------------------------------------------------


def test_questions_added_by_two_people_at_once_are_both_saved(manager: Any, agent: Any, stack: live.Stack) -> None:
    key = new_form(manager)
    for page, label in ((agent, "Mine"), (manager, "Theirs")):
        opened(page, key)
        page.get_by_role("button", name="Add a question").click()
        page.keyboard.type(label)
    manager.click("[data-save]")
    expect(manager.locator(".toast")).to_contain_text("Saved as version 2")
    expect(agent.locator(".question")).to_have_count(2)
    assert agent.locator("[data-theirs]:visible").count() == 0
    agent.click("[data-save]")
    expect(agent.locator(".toast")).to_contain_text("Saved as version 3")
    ((fields,),) = stack.query("select fields from forms where id = %s", key)
    assert {field["label"] for field in fields} == {"Mine", "Theirs"}
    assert len({field["id"] for field in fields}) == 2


def test_conflict_in_questions_shows_what_differs_and_keeps_the_rest(
    manager: Any, agent: Any, other: SecondPerson, stack: live.Stack
) -> None:
    fields = [{"id": name, "type": "text", "label": f"Question {name}"} for name in "abc"]
    key = new_form(manager, fields=fields)
    opened(agent, key)
    agent.locator(".opener").nth(1).click()
    agent.get_by_label("Question", exact=True).fill("Mine")
    theirs = [{**fields[0], "label": "Also changed"}, {**fields[1], "label": "Theirs"}, fields[2]]
    other.save("form.update", key, {"fields": theirs})
    note = agent.locator("[data-field=fields] [data-theirs]")
    expect(note.locator("li")).to_have_count(1)
    expect(note.locator("li")).to_have_text(re.compile("Mine|Theirs"))
    for words in ("Question", "Theirs Theirs", "Yours Mine"):
        expect(note.locator("li")).to_contain_text(words)
    expect(note).not_to_contain_text("{")
    note.get_by_role("button", name="Keep mine").click()
    expect(agent.locator(".editor button").first).to_be_focused()
    expect(agent.locator(".opener").first).to_contain_text("Also changed")
    agent.click("[data-save]")
    expect(agent.locator(".toast")).to_contain_text("Saved as version 3")
    ((stored,),) = stack.query("select fields from forms where id = %s", key)
    assert [field["label"] for field in stored] == ["Also changed", "Mine", "Question c"]


# -- screen readers ---------------------------------------------------------------------------------------------------


def test_many_changes_of_one_field_are_announced_once(manager: Any, agent: Any, other: SecondPerson) -> None:
    key = new_user(manager, first_name="0")
    opened(agent, key, "user")
    agent.evaluate(ANNOUNCEMENTS)
    for number in range(1, 6):
        other.save("user.update", key, {"first_name": str(number)})
        expect(agent.locator("[name=first_name]")).to_have_value(str(number))
    found = agent.evaluate("announced")
    assert sum("changed first name" in text for text in found) == 1, found


def test_announcements_are_collected_for_five_seconds_and_not_repeated(agent: Any) -> None:
    agent.clock.install()
    agent.goto("/admin/")
    agent.evaluate(ANNOUNCEMENTS)
    agent.evaluate("async () => ({ announce: window.announce } = await import('/static/backoffice/toasts.js'))")

    def announced() -> list[str]:
        return [text for text in agent.evaluate("announced") if re.fullmatch(r"[a-d](\. [a-d])*", text)]

    agent.evaluate("['a', 'b', 'a'].forEach(announce)")
    agent.clock.run_for(100)
    assert announced() == ["a. b"]
    agent.evaluate("['a', 'c', 'd'].forEach(announce)")
    agent.clock.run_for(4_000)
    assert announced() == ["a. b"]
    agent.clock.run_for(1_500)
    assert announced() == ["a. b", "c. d"]
    agent.clock.run_for(120_000)
    agent.evaluate("announce('a')")
    agent.clock.run_for(100)
    assert announced() == ["a. b", "c. d", "a"], "after a minute without it"


def test_presence_describes_a_field_and_leaves_its_name(manager: Any, agent: Any) -> None:
    key = new_user(manager)
    opened(agent, key, "user")
    opened(manager, key, "user")
    field = agent.locator("[name=first_name]")
    expect(field).to_have_accessible_name("First name")
    manager.locator("[name=first_name]").focus()
    expect(field).to_have_accessible_description(re.compile("is editing$"))
    expect(field).to_have_accessible_name("First name")
    manager.locator("[name=last_name]").focus()
    expect(field).not_to_have_accessible_description(re.compile("is editing"))
    expect(agent.locator("[name=last_name]")).to_have_accessible_description(re.compile("is editing$"))
