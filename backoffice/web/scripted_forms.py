"""Answers for forms that a script sends, so that no answer of anything else replaces a page with typed text."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from backoffice.web import offline
from events import types

GetResponse = Callable[[HttpRequest], HttpResponse]


def is_scripted(request: HttpRequest) -> bool:
    """Returns whether a script sent this form; see `static/backoffice/posting.js`."""
    return request.method == "POST" and request.headers.get("X-Requested-With") == "fetch"


def command_id(request: HttpRequest) -> uuid.UUID:
    """Returns the id that a form gave its command: the script keeps it while it sends the same input again."""
    try:
        return uuid.UUID(request.POST.get("command_id", ""))
    except ValueError:
        return types.new_id()


class ScriptedFormMiddleware:
    """Answers a form that a script sent with JSON instead of a redirect, which scripts cannot see.

    `{"location": …}`           done: the next page, which shows the messages
    `{"refusal": …}`            422: nothing was done, for the reasons in this text
    `{"code": "signed_out"}`    401: nobody is signed in
    `{"code": "other_person"}`  409: the page belongs to another person than the one who is signed in now
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_scripted(request):
            return self.get_response(request)
        if request.user.is_authenticated and offline.is_of_another_person(request):
            return JsonResponse({"code": "other_person"}, status=409)
        earlier = len(messages.get_messages(request))  # of other requests, not shown yet
        response = self.get_response(request)
        if response.status_code not in (301, 302, 303):
            return response
        location = response["Location"]
        if urlsplit(location).path == reverse("admin:login"):
            return JsonResponse({"code": "signed_out"}, status=401)
        if refusal := _refusal(request, earlier):
            return JsonResponse({"refusal": refusal}, status=422)
        answer = JsonResponse({"location": location})
        answer.cookies = response.cookies
        return answer


def _refusal(request: HttpRequest, earlier: int) -> str:
    """Takes the messages of this request and returns their texts if they are only errors.

    All other messages stay for the next page: the first `earlier` ones, and those of a request that did something.
    """
    found = list(messages.get_messages(request))
    levels = {message.level for message in found[earlier:]}
    is_refused = messages.ERROR in levels and messages.SUCCESS not in levels
    for message in found[:earlier] if is_refused else found:
        messages.add_message(request, message.level, message.message, message.extra_tags)
    return " ".join(str(message) for message in found[earlier:]) if is_refused else ""
