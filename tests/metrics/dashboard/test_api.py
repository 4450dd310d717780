"""`dashboard/layouts/`: versions, reset, export, import, shared copies, scopes."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from metrics.dashboard import layouts
from metrics.dashboard.layouts import Layout, Tile
from metrics.dashboard.models import SavedLayout, SharedLayout
from metrics.monitoring.history import tables, write
from tests.backoffice import api_client
from tests.backoffice.api_client import Caller, problem, program, signed_in

PATH = "dashboard/layouts/"


def body(*kinds: str, **more: Any) -> dict[str, Any]:
    found = [{"id": f"t{n}", "kind": kind, "w": 1, "h": 1, "options": {}} for n, kind in enumerate(kinds)]
    return {"schema": 1, "tiles": found, **more}


def put(caller: Caller, content: Any, version: str | None) -> Any:
    headers = {"If_Match": version} if version else {}
    return caller.send("PUT", PATH, content, **headers)


@pytest.mark.django_db
def test_default_has_version_zero_and_a_saved_layout_its_own() -> None:
    caller = signed_in("agent")
    first = caller.get(PATH)
    assert first.headers["ETag"] == '"v0"'
    assert first.json()["own"] is False
    saved = put(caller, body("health", "note"), '"v0"')
    assert saved.status_code == 200, saved.content
    assert (saved.headers["ETag"], saved.json()["own"]) == ('"v1"', True)
    assert caller.get(PATH).json() == saved.json()
    assert signed_in("agent").get(PATH).json()["own"] is False


@pytest.mark.django_db
def test_second_tab_gets_412_with_the_present_version_and_changes_nothing() -> None:
    caller = signed_in("agent")
    put(caller, body("health"), '"v0"')
    stale = put(caller, body("note"), '"v0"')
    problem(stale, 412, "precondition_failed")
    assert stale.headers["ETag"] == '"v1"'
    assert [tile["kind"] for tile in caller.get(PATH).json()["layout"]["tiles"]] == ["health"]
    assert put(caller, body("note"), '"v1"').headers["ETag"] == '"v2"'
    assert put(caller, body("note"), "*").headers["ETag"] == '"v3"'


@pytest.mark.django_db
def test_writing_needs_if_match() -> None:
    caller = signed_in("agent")
    problem(put(caller, body("health"), None), 428, "precondition_required")
    problem(put(caller, body("health"), "yesterday"), 400, "invalid_header")
    problem(put(caller, body("health"), '"v7"'), 412, "precondition_failed")
    problem(caller.post(f"{PATH}import/", body("health")), 428, "precondition_required")


@pytest.mark.django_db
def test_reset_returns_to_the_default_and_no_version_occurs_twice() -> None:
    caller = signed_in("agent")
    put(caller, body("note"), '"v0"')
    reset = caller.delete(PATH, If_Match='"v1"')
    assert (reset.json()["own"], reset.headers["ETag"]) == (False, '"v2"')
    assert len(reset.json()["layout"]["tiles"]) > 1
    problem(put(caller, body("health"), '"v1"'), 412, "precondition_failed")
    problem(caller.delete(PATH, If_Match='"v1"'), 412, "precondition_failed")
    assert put(caller, body("health"), '"v2"').headers["ETag"] == '"v3"'
    assert caller.delete(PATH).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_one_of_two_concurrent_saves_wins() -> None:
    person = api_client.staff("agent")
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def save(kind: str) -> None:
        try:
            start.wait()
            layouts.save(person, Layout(tiles=[Tile(id="a", kind=kind, w=1, h=1)]), 0)
            outcomes.append(kind)
        except layouts.StaleLayout as stale:
            outcomes.append(f"stale {stale.version}")
        finally:
            connection.close()

    threads = [threading.Thread(target=save, args=(kind,)) for kind in ("health", "note", "log", "figures")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if not outcome.startswith("stale")]
    assert outcomes.count("stale 1") == 3
    assert [tile.kind for tile in layouts.of(person).layout.tiles] == [winner]


@pytest.mark.django_db
def test_layout_of_another_release_is_replaced_by_the_default() -> None:
    caller = signed_in("agent")
    put(caller, body("note"), '"v0"')
    copy = caller.post(f"{PATH}share/", {"name": "One"}).json()
    SavedLayout.objects.update(body={"schema": 2, "rows": []})
    SharedLayout.objects.update(body={"schema": 2, "rows": []})
    found = caller.get(PATH).json()
    assert (found["own"], found["version"]) == (False, 1)
    assert caller.client.get("/admin/").status_code == 200
    assert caller.client.get(copy["url"]).status_code == 404


TILE = {"id": "a", "kind": "note", "w": 1, "h": 1}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content",
    [
        {"tiles": [TILE | {"w": 0}]},
        {"tiles": [TILE | {"w": 5}]},
        {"tiles": [TILE | {"h": 4}]},
        {"tiles": [TILE | {"id": ""}]},
        {"tiles": [TILE | {"id": "A b"}]},
        {"tiles": [TILE | {"kind": "<script>"}]},
        {"tiles": [TILE | {"x": 1}]},
        {"tiles": [TILE, TILE]},
        {"tiles": [TILE | {"id": f"t{n}"} for n in range(41)]},
        {"tiles": [TILE | {"options": {"text": "x" * 2_001}}]},
        {"tiles": [TILE | {"options": {"nothing": 1}}]},
        {"tiles": [TILE | {"kind": "metric", "options": {"view": "pie"}}]},
        {"tiles": [TILE | {"kind": "weather", "options": {"x": "y" * 5_000}}]},
        {"tiles": {}},
        {"schema": 2, "tiles": []},
    ],
)
def test_invalid_layout_is_refused(content: Any) -> None:
    caller = signed_in("agent")
    problem(put(caller, content, '"v0"'), 422, "invalid_layout")
    problem(caller.post(f"{PATH}import/", content, If_Match='"v0"'), 422, "invalid_layout")
    assert caller.get(PATH).json()["version"] == 0


@pytest.mark.django_db
def test_export_can_be_imported_by_another_role_without_its_forbidden_tiles() -> None:
    admin, agent = signed_in("admin"), signed_in("agent")
    content = body("health", "cpu", "weather")
    content["tiles"].append({"id": "x", "kind": "metric", "w": 4, "h": 3, "options": {"metric": "cpu.percent"}})
    content["tiles"].append({"id": "y", "kind": "metric", "w": 2, "h": 2, "options": {"metric": "staff.online"}})
    put(admin, content, '"v0"')
    exported = admin.get(f"{PATH}export/")
    assert exported.headers["Content-Disposition"] == 'attachment; filename="dashboard.json"'
    assert exported.json() == content
    imported = agent.post(f"{PATH}import/", exported.json(), If_Match='"v0"').json()
    assert (imported["unknown"], imported["forbidden"]) == (["weather"], ["cpu", "metric"])
    found = imported["layout"]["tiles"]
    assert [tile["kind"] for tile in found] == ["health", "weather", "metric"]
    assert found[-1]["options"] == {"metric": "staff.online"}
    assert not {tile["id"] for tile in found} & {tile["id"] for tile in content["tiles"]}
    assert agent.get(PATH).json()["layout"] == imported["layout"]


@pytest.mark.django_db
def test_shared_copy_is_read_with_the_rights_of_the_reader() -> None:
    admin, agent = signed_in("admin"), signed_in("agent")
    put(admin, body("health", "cpu", "note"), '"v0"')
    copy = admin.post(f"{PATH}share/", {"name": "Night shift"}).json()
    put(admin, body("note"), '"v1"')
    page = agent.client.get(copy["url"])
    assert page.status_code == 200
    assert [(one.tile.kind, one.state) for one in page.context["tiles"]] == [
        ("health", "fresh"), ("cpu", "forbidden"), ("note", "fresh"),
    ]  # fmt: skip
    assert "data-version" not in page.content.decode()
    some = agent.client.get(f"{copy['url']}tiles/", {"ids": "t0,t1"})
    assert [one.state for one in some.context["tiles"]] == ["fresh", "forbidden"]
    assert agent.get(PATH).json()["own"] is False


@pytest.mark.django_db
def test_only_the_owner_and_administrators_remove_a_shared_copy() -> None:
    manager, agent, admin = signed_in("manager"), signed_in("agent"), signed_in("admin")
    first = manager.post(f"{PATH}share/", {"name": "One"}).json()
    second = manager.post(f"{PATH}share/", {"name": "Two"}).json()
    assert [item["name"] for item in manager.get(f"{PATH}share/").json()["items"]] == ["One", "Two"]
    assert agent.get(f"{PATH}share/").json()["items"] == []
    problem(agent.delete(f"{PATH}share/{first['id']}/"), 404, "not_found")
    assert manager.delete(f"{PATH}share/{first['id']}/").status_code == 200
    assert admin.delete(f"{PATH}share/{second['id']}/").status_code == 200
    problem(admin.delete(f"{PATH}share/{uuid.uuid4()}/"), 404, "not_found")
    problem(admin.delete(f"{PATH}share/nothing/"), 404, "not_found")
    assert agent.client.get(first["url"]).status_code == 404


@pytest.mark.django_db
def test_shared_copy_of_somebody_without_access_is_gone() -> None:
    manager, agent = signed_in("manager"), signed_in("agent")
    copy = manager.post(f"{PATH}share/", {"name": "One"}).json()
    assert manager.person is not None
    manager.person.is_active = False
    manager.person.save()
    assert agent.client.get(copy["url"]).status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["", "x" * 81])
def test_shared_copy_needs_a_name(name: str) -> None:
    problem(signed_in("agent").post(f"{PATH}share/", {"name": name}), 422, "invalid")


@pytest.mark.django_db
def test_blank_name_and_too_many_copies_are_refused() -> None:
    caller = signed_in("agent")
    problem(caller.post(f"{PATH}share/", {"name": "   "}), 422, "invalid_layout")
    assert caller.person is not None
    for number in range(layouts.MAX_SHARED):
        layouts.share(caller.person, str(number), Layout())
    problem(caller.post(f"{PATH}share/", {"name": "one more"}), 409, "too_many_shared")


@pytest.mark.django_db
def test_programs_need_the_scope() -> None:
    reader, writer, other = program("dashboard:read"), program("dashboard:write"), program("users:read")
    assert reader.get(PATH).status_code == 200
    assert writer.get(PATH).status_code == 200
    assert put(writer, body("note"), '"v0"').status_code == 200
    problem(put(reader, body("note"), '"v0"'), 403, "missing_scope")
    problem(reader.delete(PATH), 403, "missing_scope")
    problem(other.get(PATH), 403, "missing_scope")
    problem(other.get(f"{PATH}export/"), 403, "missing_scope")


@pytest.mark.django_db
def test_pages_need_a_session() -> None:
    for name in ("admin:index", "admin:dashboard_tiles", "admin:dashboard_preview"):
        assert Client().get(reverse(name)).status_code == 302
    assert Client().get(reverse("admin:dashboard_shared", args=[uuid.uuid4()])).status_code == 302


@pytest.mark.django_db
def test_preview_shows_one_tile_and_refuses_nonsense() -> None:
    caller = signed_in("agent")
    address = reverse("admin:dashboard_preview")
    shown = caller.client.get(address, {"id": "new", "kind": "note", "w": "2", "h": "1", "text": "Call Lyon"})
    assert "Call Lyon" in shown.content.decode()
    forbidden = caller.client.get(address, {"id": "new", "kind": "cpu", "w": "2", "h": "2"})
    assert [one.state for one in forbidden.context["tiles"]] == ["forbidden"]
    for wrong in ({"w": "9"}, {"kind": "<b>"}, {"w": "x"}, {"text": "x" * 3000}):
        assert caller.client.get(address, {"id": "new", "kind": "note", "w": "1", "h": "1", **wrong}).status_code == 400
    too_many = ",".join(f"t{n}" for n in range(11))
    assert caller.client.get(reverse("admin:dashboard_tiles"), {"ids": too_many}).status_code == 400


@pytest.mark.django_db
def test_dialog_offers_the_hosts_and_subscriptions_of_the_newest_sample_to_those_who_see_them() -> None:
    slot = tables.present_slot()
    tables.create_partitions(slot)
    hosts = {("cpu.percent", "web-1"): 1, ("cpu.percent", "web-2"): 2}
    write.values(slot, {("db.blocked", ""): 0, ("subscription.lag", "relay"): 0, **hosts})
    offered = {
        role: signed_in(role).client.get(reverse("admin:index")).context["catalogue"]["targets"]
        for role in ("manager", "agent")
    }
    assert offered == {"manager": {"host": ["web-1", "web-2"], "subscription": ["relay"]}, "agent": {}}
