"""The suite's own PostgreSQL and Valkey, ready before Django reads its settings.

pytest-django reads them while it loads the initial conftests, so this is a plugin of its own (`-p` in pyproject.toml).
The first process starts one throw-away PostgreSQL, on a memory disk where there is one; every xdist worker gets its own
database there (pytest-django adds the suffix) and its own Valkey: channels are not divided by database number.
With DATABASE_URL or REDIS_URL already set, those are used instead, shared by the workers through REDIS_PREFIX.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import embedded

FOLDER = "FORMEASE_TEST_FOLDER"  # how workers find the first process's folder
ROOM_NEEDED = 2**30  # bytes on the memory disk; containers often have 64 MB there
PREFIX = "formease-test-"

_open = contextlib.ExitStack()
atexit.register(_open.close)  # pytest_unconfigure is not called where Django cannot be set up

# Containers like to forbid compiled modules; here dozens of processes would compile all of Django, each for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    options = early_config.known_args_namespace
    if options.help or options.version:
        return
    try:
        _start()
    except embedded.EmbeddedError as error:
        _open.close()
        pytest.exit(f"tests need PostgreSQL and Valkey: {error}", returncode=3)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    _open.close()


def _start() -> None:
    """1 a folder  2 PostgreSQL, unless there is one  3 a Valkey for this process, unless there is one."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = str(_open.enter_context(throw_away_folder()))
    folder = Path(os.environ[FOLDER]) / worker()
    folder.mkdir(exist_ok=True)
    os.environ["DATA_DIR"] = str(folder)
    os.environ["REDIS_PREFIX"] = f"test-{worker()}"
    if "DATABASE_URL" not in os.environ:
        postgres = embedded.Postgres(folder, durable=False)
        _open.callback(postgres.stop)
        postgres.start()
        os.environ["DATABASE_URL"] = postgres.url()
    if "REDIS_URL" not in os.environ or "FORMEASE_TEST_VALKEY" in os.environ:
        valkey = embedded.Valkey(folder, durable=False)
        _open.callback(valkey.stop)
        valkey.start()
        os.environ |= {"REDIS_URL": valkey.url(), "FORMEASE_TEST_VALKEY": "own"}


@contextlib.contextmanager
def throw_away_folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_NEEDED
    parent = memory if fits else Path(tempfile.gettempdir())
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    folder.chmod(0o711)  # PostgreSQL may run as another user and must pass
    try:
        with embedded.hold(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what killed runs left: folders of ours whose lock nobody holds."""
    for left in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(embedded.EmbeddedError, OSError):
            if left.stat().st_uid == os.getuid() and (left / "lock").exists():
                with embedded.hold(left):
                    shutil.rmtree(left, ignore_errors=True)
