"""The commands `create_api_key`, `export_events` and `import_events`."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from backoffice import preconditions
from backoffice.management.commands import import_events
from backoffice.models import ApiKey, Form, Submission, User
from backoffice.sections.forms import domain as forms
from backoffice.sections.staff import domain as staff
from backoffice.sections.staff import keys, recording
from backoffice.sections.users import domain as users
from events import commands, context, head, notifications, store
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(*(str(argument) for argument in arguments), stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


# -- keys -----------------------------------------------------------------------------------------------------------


def test_key_is_shown_once_and_works() -> None:
    owner = api_client.staff("manager")
    said = json.loads(
        run(
            "create_api_key",
            "nightly export",
            "--owner",
            owner.username,
            "--scopes",
            "events:read, users:read",
            "--days",
            30,
            "--json",
        )
    )
    key = keys.verify(said["token"])
    assert (key.owner, key.name, key.scopes) == (owner, "nightly export", ["events:read", "users:read"])
    assert key.expires_at is not None
    assert said["token"] not in run("create_api_key", "x", "--owner", owner.username, "--scopes", "*")
    assert api_client.Caller(owner, said["token"]).get("users/").status_code == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"owner": "nobody"}, "No active member of staff"),
        ({"scopes": "users:admin"}, "unknown scope: users:admin"),
        ({"scopes": " , "}, "unknown scope: none"),
        ({"days": 0}, "--days must be"),
        ({"name": " "}, "name must have"),
    ],
)
def test_invalid_key_arguments_are_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    wanted = {"name": "x", "owner": api_client.staff("manager").username, "scopes": "users:read"} | change
    options = [part for name in ("owner", "scopes", "days") if name in wanted for part in (f"--{name}", wanted[name])]
    with pytest.raises(CommandError, match=said):
        run("create_api_key", wanted["name"], *options)
    assert not ApiKey.objects.exists()


# -- export ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Exports four events by two actors: a new user, their form, a submission and a change of the user."""
    start = head.safe()
    with context.acting(actor="staff:7", actor_name="ada", reason="by phone"):
        owner = factories.user(first_name="Ada")
        form = factories.form(owner)
    with context.acting(actor="key:abc"):
        factories.submission(form, question="answer")
        factories.update(owner, first_name="Augusta")
    target = tmp_path / "events.jsonl"
    said = json.loads(run("export_events", target, "--after", start, "--json"))
    assert said["events"] == 4
    return target


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_export_has_the_events_in_order(exported: Path) -> None:
    found = lines(exported)
    assert [line["event"] for line in found] == ["user.created", "form.created", "submission.received", "user.updated"]
    assert [line["actor"] for line in found] == ["staff:7", "staff:7", "key:abc", "key:abc"]
    assert found[0]["metadata"]["actor_name"] == "ada"
    assert not exported.with_name("events.jsonl.part").exists()


def test_export_is_filtered(exported: Path, tmp_path: Path) -> None:
    target, first = tmp_path / "some.jsonl", lines(exported)[0]["position"]
    run("export_events", target, "--after", first, "--type", "user.created", "--type", "user.updated")
    assert [line["event"] for line in lines(target)] == ["user.updated"]
    with pytest.raises(CommandError, match="no event type"):
        run("export_events", target, "--type", "user.painted")
    with pytest.raises(CommandError, match="nowhere"):
        run("export_events", tmp_path / "nowhere" / "x.jsonl")


# -- import ---------------------------------------------------------------------------------------------------------


def elsewhere(exported: Path, tmp_path: Path) -> Path:
    """Returns the same history under other ids, as if it came from another installation."""
    text = exported.read_text()
    found = lines(exported)
    for old in {line["stream"].partition("-")[2] for line in found} | {line["event_id"] for line in found}:
        text = text.replace(old, str(uuid.uuid4()))
    target = tmp_path / "elsewhere.jsonl"
    target.write_text(text)
    return target


def test_import_keeps_actor_and_reason(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = elsewhere(exported, tmp_path)
    notified: list[int] = []
    monkeypatch.setattr(notifications, "notify", notified.append)
    said = json.loads(run("import_events", file, "--json"))
    assert (said["events"], said["added"]) == (4, 4)
    assert notified
    assert notified[-1] == head.newest()
    first = lines(file)[0]
    owner = uuid.UUID(first["stream"].partition("-")[2])
    assert User.objects.get(pk=owner).first_name == "Augusta"
    assert Submission.objects.get(form__user=owner).answers == {"question": "answer"}
    for line in lines(file):
        [event] = store.read_stream(line["stream"], line["version"] - 1, 1)
        same = ("actor", "reason", "event", "data", "correlation_id", "causation_id", "event_id", "version")
        wire = event.to_wire() | {"reason": event.reason}
        assert {name: wire[name] for name in same} == {name: line.get(name) for name in same}
        assert event.metadata == line["metadata"]


def test_import_of_a_whole_log_omits_logins_of_its_installation(exported: Path, tmp_path: Path) -> None:
    """`export_events FILE` writes sign-ins and rebuilds too, which belong to no record."""
    file = elsewhere(exported, tmp_path)
    login = api_client.staff("manager")
    stream = recording.stream(login)
    recording.record(login, staff.StaffDeactivated())
    whole = tmp_path / "whole.jsonl"
    run("export_events", whole, "--type", "staff.deactivated")
    other = {**lines(whole)[-1], "stream": "staff-99", "event_id": str(uuid.uuid4())}
    both = written(tmp_path / "both.jsonl", [other, *lines(file)])
    version = store.version_of(stream)
    for options, added in ((["--dry-run"], 0), ([], 4), ([], 0)):
        said = json.loads(run("import_events", both, "--json", *options))
        assert (said["events"], said["added"], said["left_out"]) == (4, added, 1)
    assert (store.version_of(stream), store.version_of("staff-99")) == (version, 0)


def test_repeated_import_adds_nothing(exported: Path, tmp_path: Path) -> None:
    for file in (exported, elsewhere(exported, tmp_path)):
        run("import_events", file)
        before = head.safe()
        assert json.loads(run("import_events", file, "--json"))["added"] == 0
        assert head.safe() == before


def test_dry_run_writes_nothing(exported: Path, tmp_path: Path) -> None:
    before = Form.objects.count()
    said = run("import_events", elsewhere(exported, tmp_path), "--dry-run")
    assert "4 events, 0 added" in said
    assert Form.objects.count() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"event": "user.painted"}, "line 4: No event type"),
        ({"data": {"plan": "gold"}}, "line 4: user.updated v1"),
        ({"version": 3}, "line 4: user-.* goes on with version 3 after 1"),
        ({"version": 0}, "line 4: user-.* goes on with version 0 after 1"),
        ({"stream": "form-x"}, "line 4: user.updated does not belong"),
        ({"stream": "user-x"}, "line 4: .*must be a UUID"),
        ({"stream": "nothing-1"}, "line 4: No kind of record"),
        ({"event_id": "x"}, "line 4: "),
        ({"schema_version": 9}, "line 4: .*newer than this release"),
        ({"data": {"first_name": "a\0b"}}, "line 4: .*U\\+0000"),
    ],
)
def test_invalid_line_is_named_before_anything_is_written(
    exported: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = elsewhere(exported, tmp_path)
    found = lines(file)
    found[3] |= change
    file.write_text("\n".join(json.dumps(line) for line in found))
    before = head.safe()
    with pytest.raises(CommandError, match=said):
        run("import_events", file)
    assert head.safe() == before


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "\x00", "{}"])
def test_line_without_an_event_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(f"\n{text}\n")
    with pytest.raises(CommandError, match="line 2: "):
        run("import_events", file)


def written(file: Path, found: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(json.dumps(line) for line in found))
    return file


def refused(file: Path, said: str) -> None:
    """Checks that a dry run and a real run fail with the same message, and that nothing is written."""
    before = head.safe(), User.objects.count()
    for options in (["--dry-run"], []):
        with pytest.raises(CommandError, match=said) as caught:
            run("import_events", file, *options)
        assert "Nothing was written." in str(caught.value)
    assert (head.safe(), User.objects.count()) == before


def test_line_refused_by_a_read_table_is_named_and_nothing_is_written(exported: Path, tmp_path: Path) -> None:
    file = elsewhere(exported, tmp_path)
    found = lines(file)
    found[1]["data"]["user_id"] = str(uuid.uuid4())
    refused(written(file, found), "line 2: .*There is no such user")


def test_invalid_line_after_thousands_of_valid_ones_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    def user(number: int, email: str) -> dict[str, Any]:
        data = {"email": email, "first_name": "", "last_name": "", "plan": "free", "role": "member"}
        data["created_at"] = "2024-01-01T00:00:00Z"
        key = str(uuid.uuid4())
        shared = {"event": "user.created", "schema_version": 1, "version": 1, "event_id": str(uuid.uuid4())}
        return {"stream": f"user-{key}", "data": data, **shared}

    found = [user(n, f"u{n}@example.org") for n in range(2500)]
    file = written(tmp_path / "users.jsonl", [*found, user(0, "u7@example.org")])
    refused(file, "line 2501: Another user has this email address")
    assert json.loads(run("import_events", written(file, found), "--json"))["added"] == 2500


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reason": "x" * 201}, "line 4: A reason has at most 200"),
        ({"data": {"first_name": "x" * 1_100_000}}, "line 4: .*bytes; at most"),
        ({"event_id": "same"}, "line 4: the event .* is in the file twice"),
    ],
)
def test_event_refused_by_the_store_is_found_before_the_first_write(
    exported: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = elsewhere(exported, tmp_path)
    found = lines(file)
    found[3] |= {"event_id": found[0]["event_id"]} if change == {"event_id": "same"} else change
    refused(written(file, found), said)


def test_event_of_an_erased_person_is_found_before_the_first_write(exported: Path, tmp_path: Path) -> None:
    file = elsewhere(exported, tmp_path)
    found = lines(file)
    run("import_events", written(file, found[:1]))
    commands.dispatch(factories.command(users.EraseUser(), found[0]["stream"].partition("-")[2], reason="asked"))
    found[1]["version"], found[3]["version"] = 1, 2
    refused(written(file, found[:2]), "line 2: ")


def test_all_invalid_lines_are_listed(exported: Path, tmp_path: Path) -> None:
    file = elsewhere(exported, tmp_path)
    found = lines(file)
    for line in (found[0], found[2]):
        line["schema_version"] = 9
    with pytest.raises(CommandError) as caught:
        run("import_events", written(file, found))
    assert [name in str(caught.value) for name in ("line 1: ", "line 2: ", "line 3: ", "line 4: ")][::2] == [True, True]


def test_check_of_a_file_does_not_delay_readers_of_the_log(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that another process appends during the check can be read at once."""
    seen: list[int] = []
    apply = import_events.FileCheck.apply

    def during(checking: Any, batch: Any) -> None:
        apply(checking, batch)
        thread = factories.Thread(lambda: (factories.user(), head.safe(), head.last()))
        _, safe, last = thread.result()
        seen.append(last - safe)

    monkeypatch.setattr(import_events.FileCheck, "apply", during)
    run("import_events", elsewhere(exported, tmp_path))
    assert seen == [0]


def test_interrupted_import_is_completed_by_the_next_run(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = elsewhere(exported, tmp_path)
    monkeypatch.setattr(import_events, "BATCH", 2)
    store_batch = import_events._store
    calls: list[int] = []

    def stop(batch: Any) -> int:
        calls.append(len(batch))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return store_batch(batch)

    monkeypatch.setattr(import_events, "_store", stop)
    with pytest.raises(CommandError, match=r"interrupted; lines before 3 were written\. Run the same command again"):
        run("import_events", file)
    said = json.loads(run("import_events", file, "--json"))
    assert (said["added"], said["already_there"]) == (2, 2)


def test_submission_to_an_archived_form_is_imported(tmp_path: Path) -> None:
    start, form = head.safe(), factories.form()
    commands.dispatch(factories.command(forms.UpdateForm(archived=True), form))
    with preconditions.waived("archived"):
        factories.submission(form, question="answer")
    exported = tmp_path / "events.jsonl"
    run("export_events", exported, "--after", start)
    file = elsewhere(exported, tmp_path)
    assert json.loads(run("import_events", file, "--json"))["added"] == len(lines(file))


def test_stream_that_has_newer_events_is_not_overwritten(exported: Path, tmp_path: Path) -> None:
    file = elsewhere(exported, tmp_path)
    found = lines(file)
    file.write_text("\n".join(json.dumps(line) for line in found[:3]))
    run("import_events", file)
    factories.update(uuid.UUID(found[0]["stream"].partition("-")[2]), first_name="Local")
    file.write_text("\n".join(json.dumps(line) for line in found))
    with pytest.raises(CommandError, match=r"line 4: .*version 2"):
        run("import_events", file)


def test_missing_file_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        run("import_events", tmp_path / "nothing.jsonl")
