"""Operator pages for subscriptions: checkpoints, parked streams and the recent actions of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from backoffice.web import timeline
from events import head, store, types
from events.subscriptions import parked as parking
from events.subscriptions.status import SubscriptionStatus
from events.types import RecordedEvent
from metrics.monitoring import operator_action, overview
from metrics.monitoring.operator_action import OperatorPages, Route
from metrics.monitoring.overview import ObservedSubscription
from metrics.monitoring.parked_streams import PAGE, parked_rows

RECENT_ACTIONS: Final = 20  # number of actions on the page of a subscription
HELD_SECONDS: Final = 2.0  # a session that holds the head longer is shown

# State -> its label, and the style of its badge.
STATES: Final[Mapping[str, tuple[Promise, str]]] = {
    "running": (pgettext_lazy("subscription", "Running"), "good"),
    "late": (gettext_lazy("Behind"), "warn"),
    "failing": (gettext_lazy("Failing"), "bad"),
    "stopped": (gettext_lazy("Stopped"), "bad"),
    "new": (gettext_lazy("Not started"), "quiet"),
    "unknown": (gettext_lazy("Not in this release"), "warn"),
}


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint for display."""

    observed: ObservedSubscription

    @property
    def status(self) -> SubscriptionStatus:
        return self.observed.status

    @property
    def throughput(self) -> float | None:
        return self.observed.throughput

    @property
    def word(self) -> Promise:
        return STATES[self.status.state][0]

    @property
    def look(self) -> str:
        return STATES[self.status.state][1]

    @property
    def partition(self) -> str:
        return self.status.checkpoint.name.partition("/")[2]

    @property
    def host(self) -> str:
        """The host of the runner, from ``host:pid:part``."""
        return self._owner[0]

    @property
    def pid(self) -> str:
        return self._owner[1]

    @property
    def _owner(self) -> tuple[str, str]:
        name, _colon, rest = (self.status.checkpoint.owner or "").partition(":")
        return name, rest.partition(":")[0]


@dataclass(frozen=True, slots=True)
class ActionRow:
    """An operator's action on a parked event or, without a `stream`, on the subscription."""

    event: RecordedEvent
    entry: timeline.Entry
    stream: str
    position: int

    @classmethod
    def of(cls, event: RecordedEvent) -> ActionRow:
        stream, position = str(event.data.get("stream", "")), int(event.data.get("position", 0))
        return cls(event, timeline.entry(event, []), stream, position)


class SubscriptionPages(OperatorPages):
    def routes(self) -> Sequence[Route]:
        return (
            Route("subscriptions/", "subscriptions", self.index),
            Route("subscriptions/<str:name>/", "subscription", self.one),
        )

    @operator_action.page
    def index(self, request: HttpRequest) -> HttpResponse:
        """All subscriptions with their partitions."""
        found = rows()
        context = {
            "title": _("Subscriptions"),
            "rows": found,
            "head": found[0].status.checkpoint.head if found else head.safe(),
            "held": _head_holder(),
            "well": all(row.status.state == "running" for row in found),
            "parked": sum(row.status.checkpoint.parked for row in found),
        }
        return self.render(request, "subscriptions", context)

    @operator_action.page
    def one(self, request: HttpRequest, name: str) -> HttpResponse:
        """One subscription: its checkpoints, its parked streams, and the recent actions of operators."""
        found = rows(name)
        if not found:
            raise Http404
        after = request.GET.get("after", "")
        position = int(after) if after.isdecimal() and len(after) < 19 else 0
        parked = parking.parked(name, limit=PAGE + 1, after=position)
        actions = types.stream_name("subscription", name)
        recent = store.read_stream(actions, max(0, store.version_of(actions) - RECENT_ACTIONS))
        context = {
            "title": name,
            "name": name,
            "rows": found,
            "declared": found[0].status.declared,
            "held": _head_holder(),
            "aside": parked_rows(parked[:PAGE], request.user),
            "after": parked[PAGE - 1].position if len(parked) > PAGE else None,
            "is_first": not position,
            "total": sum(row.status.checkpoint.parked for row in found),
            "done": [ActionRow.of(event) for event in reversed(recent)],
            "replayable": found[0].status.declared is not None,
        }
        return self.render(request, "subscription", context)


def rows(subscription: str | None = None) -> list[CheckpointRow]:
    """All checkpoints, or those of one subscription, for display."""
    return [CheckpointRow(one) for one in overview.observed_subscriptions(subscription)]


def _head_holder() -> head.Holder | None:
    """The session that has held the head for more than `HELD_SECONDS`."""
    return next((holder for holder in head.holders() if (holder.seconds or 0) > HELD_SECONDS), None)
