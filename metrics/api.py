"""All addresses of this package in the API."""

from __future__ import annotations

from metrics import figures_api
from metrics.caching import api as caching
from metrics.dashboard import api as dashboard
from metrics.monitoring import api as monitoring

urlpatterns = [
    *monitoring.urlpatterns,
    *caching.urlpatterns,
    *figures_api.urlpatterns,
    *dashboard.urlpatterns,
]
