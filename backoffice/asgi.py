"""The ASGI application: Django serves HTTP, `realtime` the sockets; it runs under uvicorn, Daphne and granian."""

from __future__ import annotations

import functools
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
http_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402 - Django must be set up first
from django.conf import settings  # noqa: E402

from backoffice import access_log, request_limits  # noqa: E402
from metrics.monitoring import process_reports, request_counts  # noqa: E402
from realtime.proxies import ClientAddress  # noqa: E402
from realtime.routing import Following, lifespan_application, websocket_application  # noqa: E402

request_limits.limit_daphne()
application = request_counts.CountRequests(
    ClientAddress(
        ProtocolTypeRouter(
            {
                "http": access_log.AccessLog(Following(request_limits.Limit(http_application))),
                "websocket": websocket_application,
                "lifespan": lifespan_application,
            }
        ),
        settings.TRUSTED_PROXIES,
    ),
    on_request=functools.partial(process_reports.start, "web"),
)
