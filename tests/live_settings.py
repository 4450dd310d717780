"""The settings of a live stack: the project's, with what a test would only wait for made short."""

from backoffice.settings import *  # noqa: F403

# As in production, a browser may keep static files. With DEBUG alone every page asks again for each of its thirty
# scripts, which was a third of what a page costs here.
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600

# Seconds until somebody who left is gone, and the longest pause before a browser comes back to a server.
REALTIME = {"presence_grace": 2.0, "retry_max_ms": 2_000}
