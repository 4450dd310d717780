"""URLs of the site."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from django.views.i18n import JavaScriptCatalog

from backoffice import health
from realtime import views

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", views.metrics, name="metrics"),
    path("asyncapi.json", views.asyncapi_json, name="asyncapi"),
    path("i18n/", include("django.conf.urls.i18n")),
    path(
        "jsi18n/",
        JavaScriptCatalog.as_view(packages=["backoffice", "realtime", "django.contrib.admin"]),
        name="javascript-catalog",
    ),
    path("api/", include("backoffice.api.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "backoffice.error_pages.bad_request"
handler403 = "backoffice.error_pages.permission_denied"
handler404 = "backoffice.error_pages.not_found"
handler500 = "backoffice.error_pages.server_error"
