"""Static files in production: names with the hash of the content, and a folder that the releases share.

During a rolling deploy a page of the new release may ask an old process for its files, and the reverse. `share` copies
the hashed files of a release to `STATIC_SHARED_DIR` before its processes start; a process serves from there what its
own release lacks. Such a file never changes, so copies of many releases may be in one folder.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Final

from django.conf import settings
from whitenoise.storage import CompressedManifestStaticFilesStorage

# folder/name.0123456789ab.css, also compressed
HASHED: Final = re.compile(r"(?:[\w-][\w.-]*+/)*+[\w-][\w.-]*\.[0-9a-f]{12}\.[\w.]+")
COMPRESSED: Final = (".gz", ".br")


class HashedModules(CompressedManifestStaticFilesStorage):  # type: ignore[misc] # WhiteNoise has no types
    """Replaces the names also in the `import` statements of scripts.

    Without that, a page of a new release imports modules that a browser or proxy still caches from the old one.
    """

    support_js_module_import_aggregation = True
    max_post_process_passes = 25  # one for each step of the longest chain of imports


def shared(name: str) -> Path | None:
    """The path of another release's file, by its name with a hash; None where there is none."""
    folder: Path | None = settings.STATIC_SHARED_DIR
    if folder is None or not HASHED.fullmatch(name):
        return None
    path = folder / name
    return path if path.is_file() else None


def share(storage: HashedModules, keep_days: int) -> tuple[int, int]:
    """Copy the hashed files of this release to the shared folder; returns how many were copied, and how many deleted.

    A file is deleted when no release has shared it for `keep_days`; the time of a file is that of its last sharing.
    """
    folder = Path(settings.STATIC_SHARED_DIR)  # type: ignore[arg-type] # the command checks that it is set
    copied, now = 0, time.time()
    for name in {one + suffix for one in storage.hashed_files.values() for suffix in ("", *COMPRESSED)}:
        source, target = Path(storage.location) / name, folder / name
        if not source.is_file():
            continue
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.{os.getpid()}.part")  # a reader must not see half a file
            shutil.copyfile(source, partial)
            partial.replace(target)
            copied += 1
        os.utime(target, (now, now))
    return copied, _delete_older(folder, now - keep_days * 86_400)


def _delete_older(folder: Path, instant: float) -> int:
    """Delete old files that have a name with a hash: no others, in case that the folder is not for these alone."""
    named = (path for path in folder.rglob("*") if HASHED.fullmatch(path.relative_to(folder).as_posix()))
    old = [path for path in named if path.is_file() and path.stat().st_mtime < instant]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
