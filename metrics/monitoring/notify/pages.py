"""Admin pages of channels, and the log of deliveries. Everybody sees them; administrators change channels."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import access
from events import errors
from metrics.monitoring.notify import changes, labels
from metrics.monitoring.notify.forms import ChannelForm
from metrics.monitoring.notify.models import STATES, Channel, Delivery

ACTIONS: Final = ("test", "pause", "resume", "delete")
# The fields of a destination by kind of channel; of a new one all.
DESTINATION: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("recipients", "url", "token", "room"),
    "email": ("recipients",),
    "webhook": ("url", "rotate"),
    "slack": ("url",),
    "teams": ("url",),
    "ntfy": ("url", "token"),
    "matrix": ("url", "token", "room"),
}


def _may(request: HttpRequest, action: str) -> bool:
    return access.may(request.user, action, "channel")


class _Pages(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rights of both kinds of pages; nothing is deleted by Django's own action."""

    list_per_page = 50

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _may(request, "view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request, "view")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Answers 404: changes are events, and Django's own log is not used."""
        raise Http404

    def log_addition(self, *_arguments: Any) -> Any:
        return None

    def log_change(self, *_arguments: Any) -> Any:
        return None


class ChannelAdmin(_Pages):
    """Lists and edits channels; tests, pauses, resumes and deletes them."""

    form = ChannelForm
    list_display = ("name", "kind", "shown_target", "shown_state", "min_severity", "language")
    ordering = ("name",)
    actions = ("send_tests",)
    change_form_template = "admin/metrics/channel/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        return Channel.objects.filter(deleted_at=None)

    @admin.display(description=gettext_lazy("destination"))
    def shown_target(self, channel: Channel) -> str:
        return labels.target(channel)

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, channel: Channel) -> str:
        return labels.channel_state(channel)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if not _may(request, "edit"):
            names = ("name", "kind", "shown_target", "shown_state", "language", "min_severity")
            return [(None, {"fields": (*names, "quiet_from", "quiet_until", "zone")})]
        return [
            (None, {"fields": ("name", "kind", "language", "min_severity")}),
            (_("Destination"), {"fields": DESTINATION[obj.kind if obj else ""]}),
            (
                _("Quiet hours"),
                {
                    "fields": ("quiet_from", "quiet_until", "zone"),
                    "description": _("Messages wait until the end of these hours; critical alerts do not."),
                },
            ),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if not _may(request, "edit"):
            return ("shown_target", "shown_state")
        return ("kind",) if obj is not None else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _may(request, "edit")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request, "edit")

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        written = changes.write(obj.pk if change else None, form.cleaned_data)
        obj.pk, obj.name = written.channel.pk, written.channel.name
        request.signing_key = written.signing_key  # type: ignore[attr-defined]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Does nothing: a channel has no related objects to save."""

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        return form.instance

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        return ""

    def response_add(self, request: HttpRequest, obj: Channel, post_url_continue: str | None = None) -> HttpResponse:
        return self._key_page(request, obj) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Channel) -> HttpResponse:
        return self._key_page(request, obj) or super().response_change(request, obj)

    def _key_page(self, request: HttpRequest, channel: Channel) -> HttpResponse | None:
        """The page that shows a new signing key, once. A message would keep it in a cookie."""
        key = getattr(request, "signing_key", None)
        if key is None:
            return None
        context = {**self.admin_site.each_context(request), "title": _("Signing key"), "channel": channel, "key": key}
        response = TemplateResponse(request, "admin/metrics/channel/signing_key.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description=gettext_lazy("Send a test message"), permissions=["change"])
    def send_tests(self, request: HttpRequest, chosen: QuerySet[Channel]) -> None:
        for channel in chosen:
            self._report_test(request, channel)

    # -- actions on one channel --

    def get_urls(self) -> list[URLPattern]:
        act = path("<uuid:channel>/act/", self.admin_site.admin_view(self.act), name="metrics_channel_act")
        return [act, *super().get_urls()]

    def act(self, request: HttpRequest, channel: uuid.UUID) -> HttpResponse:
        """Performs one of `ACTIONS`, the value of the button ``action``."""
        if not _may(request, "edit"):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        action = request.POST.get("action", "")
        try:
            found = changes.find(channel)
        except errors.StreamNotFound:
            raise Http404 from None
        if action not in ACTIONS:
            raise Http404
        if action == "test":
            self._report_test(request, found)
        elif action == "pause" and changes.pause(channel):
            messages.success(request, _("“%(name)s” is paused. Its messages wait.") % {"name": found})
        elif action == "resume" and changes.resume(channel):
            messages.success(request, _("“%(name)s” sends messages again.") % {"name": found})
        elif action == "delete":
            changes.delete(channel)
            messages.success(request, _("“%(name)s” was deleted.") % {"name": found})
            return HttpResponseRedirect(reverse("admin:metrics_channel_changelist"))
        return HttpResponseRedirect(reverse("admin:metrics_channel_change", args=[channel]))

    def _report_test(self, request: HttpRequest, channel: Channel) -> None:
        delivery = changes.test(channel.pk)
        shown = {"name": channel, "answer": delivery.answer}
        if delivery.state == "delivered":
            messages.success(request, _("The test message reached “%(name)s”: %(answer)s.") % shown)
        else:
            messages.error(request, _("The test message did not reach “%(name)s”: %(answer)s.") % shown)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **named: Any) -> Any:
        return super().render_change_form(request, {**context, "may_edit": _may(request, "edit")}, *args, **named)


class DeliveryAdmin(_Pages):
    """The log of deliveries: what was decided, when it was delivered, and every attempt."""

    list_display = ("decided_at", "subject", "channel", "shown_state", "attempts", "delivered_at", "answer")
    list_display_links = ("decided_at",)
    change_list_template = "admin/metrics/delivery/change_list.html"
    list_select_related = ("channel",)
    ordering = ("-id",)
    show_full_result_count = False
    actions = ("send_again",)
    fields = (
        *("subject", "channel", "shown_state", "message_id"),
        *("decided_at", "due", "delivered_at", "answer", "shown_tries"),
    )
    readonly_fields = fields

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        shown = {"states": STATES, "state": request.GET.get("state__exact", "")}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    @admin.display(description=gettext_lazy("message"))
    def subject(self, delivery: Delivery) -> str:
        return labels.subject(delivery)

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def shown_state(self, delivery: Delivery) -> str:
        return labels.delivery_state(delivery)

    @admin.display(description=gettext_lazy("attempts"))
    def shown_tries(self, delivery: Delivery) -> SafeString | str:
        return labels.attempts(delivery)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allows the list to offer its action; a delivery itself is never edited."""
        return obj is None and _may(request, "retry")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return _may(request, "retry")

    @admin.action(description=gettext_lazy("Send again"), permissions=["retry"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[Delivery]) -> None:
        again = sum(_retried(delivery.pk) for delivery in chosen)
        left = chosen.count() - again
        self.message_user(request, _("Sent again: %(number)d.") % {"number": again})
        if left:
            text = _("%(number)d were delivered already or are not needed any more.") % {"number": left}
            self.message_user(request, text, messages.WARNING)


def _retried(delivery: int) -> bool:
    try:
        changes.retry(delivery)
    except changes.NotRetryable:
        return False
    return True
