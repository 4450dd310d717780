"""API endpoint that exports all data about a user, for people with that right."""

from __future__ import annotations

from django.http import Http404
from django.http.response import HttpResponseBase
from django.urls import path
from rest_framework.request import Request

from backoffice import access, models, section, streaming
from backoffice.api import openapi, permissions, problems, views
from backoffice.sections.privacy import export as user_export
from events import context, errors

SCOPE = "users:export"


class Export(views.View):
    """Exports all data about a user as one file. It is a POST because the export is recorded."""

    operations = {
        "POST": openapi.Operation(
            id="export_user",
            summary="Export the personal data of a user",
            description=(
                "Contains the user, their forms, the submissions to these, and conflicts of all of them, each with all "
                "events. For data protection officers. The export is recorded as an event, with `reason`."
            ),
            tag="users",
            parameters=(
                openapi.in_path("key", "The record's UUID."),
                openapi.query("reason", "The reason for the export.", {"type": "string", "maxLength": 200}),
            ),
            response=openapi.ref("PersonalDataExport"),
            errors=(400, 401, 403, 404, 429),
            scope=SCOPE,
        )
    }

    def post(self, request: Request, key: str) -> HttpResponseBase:
        permissions.require_scope(request, SCOPE)
        if not access.may(request.user, "export", "user"):
            raise problems.forbidden("user.export")
        views.allow_parameters(request, ("reason",))
        reason = views.reason(request)
        try:
            user = models.User.objects.filter(pk=section.uuid_key(key)).first()
        except errors.InvalidCommand:
            user = None
        if user is None:
            raise Http404
        with context.acting(reason=reason):
            parts = user_export.export(user, "api")
        return streaming.download(request._request, parts, f"user-{user.pk}.json")


urlpatterns = [path("users/<str:key>/export/", Export.as_view(), name="api-user-export")]
