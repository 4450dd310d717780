"""The settings of a live stack: the project's, but static files may be kept by a browser, as in production.

With DEBUG alone every page asks for each of its thirty scripts again, which was half of what a page costs here.
"""

from backoffice.settings import *  # noqa: F403

WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600
