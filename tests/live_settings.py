"""The settings of a live stack: the project's, with shorter waiting times."""

from typing import Any

from backoffice.settings import *  # noqa: F403

# As in production, a browser may cache static files. With DEBUG alone every page requests its thirty scripts again,
# which was a third of the cost of a page here.
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600

# Seconds until a person who left is removed from presence, and the longest pause before a browser reconnects.
REALTIME = {"presence_grace": 2.0, "retry_max_ms": 2_000}

# A stack without a worker would only fill the queue, and a worker that a test starts does what the test asks for.
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {}
