"""A pytest plugin that starts the suite's PostgreSQL and Valkey before Django reads its settings.

pytest-django reads them while it loads the initial conftests, so this is a separate plugin (`-p` in pyproject.toml).
The first process starts one temporary PostgreSQL, on a memory disk if there is one. Every xdist worker gets its own
database there (pytest-django adds the suffix) and its own Valkey, because database numbers do not separate channels.
If DATABASE_URL or REDIS_URL is set already, the workers share those, separated by REDIS_PREFIX.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import services
from devtools.postgres import Postgres
from devtools.valkey import Valkey

FOLDER = "FORMEASE_TEST_FOLDER"  # gives workers the folder of the first process
SPACE_NEEDED = 2**30  # bytes on the memory disk; containers often have only 64 MB there
PREFIX = "formease-test-"

_open = contextlib.ExitStack()
atexit.register(_open.close)  # pytest_unconfigure is not called where Django cannot be set up

gc.disable()  # until the tests are collected: nothing of that is garbage, and scanning it took a third of the time

# Containers often disable compiled modules; then each of dozens of processes would compile all of Django.
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
    except services.EmbeddedError as error:
        _open.close()
        pytest.exit(f"tests need PostgreSQL and Valkey: {error}", returncode=3)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    _open.close()


def _start() -> None:
    """Start the services: 1 create a folder  2 start PostgreSQL  3 start this process's Valkey.

    Servers named in the environment are used instead.
    """
    if FOLDER not in os.environ:
        os.environ[FOLDER] = str(_open.enter_context(temporary_folder()))
    folder = Path(os.environ[FOLDER]) / worker()
    folder.mkdir(exist_ok=True)
    os.environ["DATA_DIR"] = str(folder)
    os.environ["REDIS_PREFIX"] = f"test-{worker()}"
    os.environ["PROCESS_REPORTS"] = "0"  # a thread of this process would keep writing to the test database
    if "DATABASE_URL" not in os.environ:
        postgres = Postgres(folder, durable=False)
        _open.callback(postgres.stop)
        postgres.start()
        os.environ["DATABASE_URL"] = postgres.url()
    if "REDIS_URL" not in os.environ or "FORMEASE_TEST_VALKEY" in os.environ:
        valkey = Valkey(folder, durable=False)
        _open.callback(valkey.stop)
        valkey.start()
        os.environ |= {"REDIS_URL": valkey.url(), "FORMEASE_TEST_VALKEY": "own"}


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > SPACE_NEEDED
    parent = memory if fits else Path(tempfile.gettempdir())
    remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    folder.chmod(0o711)  # PostgreSQL may run as another user and must pass
    try:
        with services.lock_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove the folders that killed runs left: folders of this user whose lock is free."""
    for left in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(services.EmbeddedError, OSError):
            if left.stat().st_uid == os.getuid() and (left / "lock").exists():
                with services.lock_folder(left):
                    shutil.rmtree(left, ignore_errors=True)
