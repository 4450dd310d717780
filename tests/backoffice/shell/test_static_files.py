"""Static files of two releases that run at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.http import HttpResponse
from django.test import RequestFactory

from backoffice import middleware, static_files

Release = Callable[[str, str], static_files.HashedModules]


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """Returns a function that collects one script as a release, and returns the release's storage."""

    def collect(name: str, script: str) -> static_files.HashedModules:
        folder = tmp_path / name
        (folder / "js").mkdir(parents=True)
        (folder / "js" / "page.js").write_text(script)
        storage = static_files.HashedModules(location=str(folder), base_url="/static/")
        problems = [
            one for *_names, one in storage.post_process({"js/page.js": (storage, "js/page.js")}) if one is not True
        ]
        assert not any(isinstance(one, Exception) for one in problems)
        return storage

    return collect


@pytest.fixture(autouse=True)
def shared(settings: Any, tmp_path: Path) -> Path:
    settings.STATIC_SHARED_DIR = tmp_path / "shared"
    settings.WHITENOISE_AUTOREFRESH = settings.WHITENOISE_USE_FINDERS = False
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


def process(storage: static_files.HashedModules, settings: Any) -> Callable[[str], HttpResponse]:
    """A web process of that release, as a function from a path to its answer; 404 from the pages behind."""
    settings.STATIC_ROOT = storage.location
    serve = middleware.StaticFilesMiddleware(lambda _request: HttpResponse(status=404), settings)
    return lambda path: serve(RequestFactory().get(path))


def test_process_of_the_old_release_serves_files_of_the_new_one(release: Release, settings: Any) -> None:
    old, new = release("old", "export const a = 1;\n"), release("new", "export const a = 2;\n")
    serving_old = process(old, settings)
    path = f"/static/{new.hashed_files['js/page.js']}"
    assert serving_old(path).status_code == 404
    assert static_files.share(new, keep_days=30)[0] >= 1
    answer = serving_old(path)
    assert (answer.status_code, answer.content) == (200, b"export const a = 2;\n")
    assert "javascript" in answer["Content-Type"]
    assert serving_old(f"/static/{old.hashed_files['js/page.js']}").content == b"export const a = 1;\n"


def test_pages_that_stay_open_find_the_files_of_the_release_before(release: Release, settings: Any) -> None:
    old, new = release("old", "1;\n"), release("new", "2;\n")
    static_files.share(old, keep_days=30)
    static_files.share(new, keep_days=30)
    assert process(new, settings)(f"/static/{old.hashed_files['js/page.js']}").content == b"1;\n"


def test_files_that_no_release_shares_any_more_are_deleted(release: Release, shared: Path) -> None:
    old, new = release("old", "1;\n"), release("new", "2;\n")
    static_files.share(old, keep_days=30)
    (shared / "archive.jsonl").write_text("of somebody else")
    for path in shared.rglob("*.*"):
        os.utime(path, (0, 0))
    copied, deleted = static_files.share(new, keep_days=30)
    assert deleted >= 1
    assert (shared / "archive.jsonl").exists(), "only files with a hash in their names are deleted"
    assert [path.name for path in shared.rglob("*.js")] == [Path(new.hashed_files["js/page.js"]).name]
    assert static_files.share(new, keep_days=30) == (0, 0), "sharing again copies nothing"
    assert copied >= 1


@pytest.mark.parametrize(
    "name",
    [
        "../secret.0123456789ab.js",
        "js/../../secret.0123456789ab.js",
        "/etc/passwd.0123456789ab.js",
        "js/.0123456789ab.js",
        "js//page.0123456789ab.js",
        "js/page.js",
        "js/page.0123456789AB.js",
        "js/page.0123456789ab.js\n",
    ],
)
def test_only_names_with_a_hash_below_the_folder_are_looked_for(name: str, shared: Path) -> None:
    (shared.parent / "secret.0123456789ab.js").write_text("secret")
    (shared / "js").mkdir()
    for known in ("page.js", ".0123456789ab.js", "page.0123456789AB.js"):
        (shared / "js" / known).write_text("x")
    assert static_files.shared(name) is None


def test_command_does_nothing_without_a_shared_folder(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.STATIC_SHARED_DIR = None
    call_command("share_static_files")
    assert "nothing is shared" in capsys.readouterr().out
