"""The API description for machines (`schema/`) and for people (`docs/`); both are public, because they hold no data."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularAPIView


class Schema(SpectacularAPIView):
    """OpenAPI 3.1, as YAML or (`?format=json`) as JSON."""


@require_safe
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    """Swagger UI without inline code, as the content security policy requires. "Try it out" uses the session."""
    return render(request, "backoffice/api/docs.html")
