"""The settings of a live stack with collected static files, as in production.

`RELEASE_FILES` is the folder they are collected in, `RELEASE_CHANGES` one with files that this release changed.
"""

import os

from tests.live_settings import *  # noqa: F403

DEBUG = False
STATIC_ROOT = os.environ["RELEASE_FILES"]
STATICFILES_DIRS = [path for path in [os.environ.get("RELEASE_CHANGES")] if path]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "backoffice.static_files.HashedModules"},
}
WHITENOISE_USE_FINDERS = False
