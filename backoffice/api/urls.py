"""Every address of the HTTP API. The version is in the path; what is under it only grows."""

from __future__ import annotations

from typing import Any

from django.urls import path
from django.urls.resolvers import URLPattern
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice.api import commands, docs, ingest, problems, resources, streams, sync, views
from backoffice.sections.conflicts import api as conflicts
from backoffice.sections.privacy import api as people
from metrics.monitoring import api as system


class Nothing(views.View):
    """Any other address: 404 as a problem, not as a page."""

    permission_classes: list[Any] = []
    authentication_classes: list[Any] = []
    throttle_classes: list[Any] = []
    schema = None  # type: ignore[assignment]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise problems.Problem(404, "not_found", "There is no such address in this API.")

    def get(self, request: Request, **_: Any) -> Response:
        raise AssertionError("initial() has refused")


urlpatterns: list[URLPattern] = [
    path("schema/", docs.Schema.as_view(), name="api-schema"),
    path("docs/", docs.page, name="api-docs"),
    path("v1/commands/", commands.Commands.as_view(), name="api-commands"),
    path("v1/ingest/", ingest.Ingest.as_view(), name="api-ingest"),
    path("v1/sync/", sync.Sync.as_view(), name="api-sync"),
    path("v1/conflicts/", conflicts.ConflictList.as_view(), name="api-conflicts"),
    path("v1/conflicts/<str:key>/", conflicts.Conflict.as_view(), name="api-conflict"),
    path("v1/conflicts/<str:key>/resolve/", conflicts.Resolve.as_view(), name="api-conflict-resolve"),
    path("v1/conflicts/<str:key>/assign/", conflicts.Assign.as_view(), name="api-conflict-assign"),
    path("v1/conflicts/<str:key>/comment/", conflicts.Comment.as_view(), name="api-conflict-comment"),
    path("v1/conflicts/<str:key>/dismiss/", conflicts.Dismiss.as_view(), name="api-conflict-dismiss"),
    path("v1/conflicts/<str:key>/reopen/", conflicts.Reopen.as_view(), name="api-conflict-reopen"),
    path("v1/users/", resources.UserList.as_view(), name="api-users"),
    path("v1/users/<str:key>/export/", people.Export.as_view(), name="api-user-export"),
    path("v1/users/<str:key>/", resources.UserRecord.as_view(), name="api-user"),
    path("v1/forms/", resources.FormList.as_view(), name="api-forms"),
    path("v1/forms/<str:key>/", resources.FormRecord.as_view(), name="api-form"),
    path("v1/submissions/", resources.SubmissionList.as_view(), name="api-submissions"),
    path("v1/submissions/<str:key>/", resources.SubmissionRecord.as_view(), name="api-submission"),
    path("v1/settings/", resources.SettingList.as_view(), name="api-settings"),
    path("v1/settings/<str:key>/", resources.SettingRecord.as_view(), name="api-setting"),
    path("v1/events/", streams.Events.as_view(), name="api-events"),
    path("v1/streams/<str:stream>/", streams.Stream.as_view(), name="api-stream"),
    path("v1/streams/<str:stream>/state/", streams.State.as_view(), name="api-state"),
    path("v1/system/subscriptions/", system.Subscriptions.as_view(), name="api-subscriptions"),
    path("v1/system/subscriptions/<str:name>/parked/", system.ParkedStreams.as_view(), name="api-parked"),
    path("v1/system/subscriptions/<str:name>/replay/", system.Replay.as_view(), name="api-replay"),
    path("v1/system/subscriptions/<str:name>/skip/", system.Skip.as_view(), name="api-skip"),
    path("v1/system/head/", system.Head.as_view(), name="api-head"),
    path("v1/system/head/verify/", system.Verify.as_view(), name="api-verify"),
    path("v1/system/rebuilds/", system.Rebuilds.as_view(), name="api-rebuilds"),
    path("v1/system/rebuilds/<str:table>/start/", system.Rebuild.as_view(), name="api-rebuild"),
    path("v1/system/rebuilds/<str:table>/cancel/", system.CancelRebuild.as_view(), name="api-cancel-rebuild"),
    path("<path:rest>", Nothing.as_view()),
]
