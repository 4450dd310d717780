"""The widgets: what each shows, who may see it, and which roles have it in their default layout.

Every widget is one row of `WIDGETS`. A tile of a layout names its widget by `kind`, which is stored: never rename one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from backoffice import access
from backoffice.section import Text
from metrics.dashboard import alerts, lists, metric_tiles
from metrics.dashboard.asked import Asked
from metrics.monitoring import metric_types

# (action, category) of `access`; None: everybody who may enter.
Right = tuple[str, str] | None
Load = Callable[[Asked], dict[str, Any]]

SYSTEM: Final = ("view", "system")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a tile; most widgets have none."""


class NoteOptions(Options, frozen=True, kw_only=True):
    """A note. Its text is shown as written."""

    text: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


class MetricOptions(Options, frozen=True, kw_only=True):
    """Any metric, as a chart, a number or a table. `target`: one host or subscription, else the worst."""

    metric: Annotated[str, msgspec.Meta(max_length=80)] = "requests.count"
    view: Literal["chart", "number", "table"] = "chart"
    target: Annotated[str, msgspec.Meta(max_length=80)] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Widget:
    """A kind of tile.

    template  shows the result of `load` as ``content``
    w, h      its size when it is added
    topics    events of these topics change it
    metrics   the metrics that it shows; the first one is drawn
    link      the name of the page behind it
    """

    kind: str
    label: Text
    right: Right
    load: Load
    template: str
    w: int = 1
    h: int = 1
    topics: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    options: type[Options] = Options
    link: str = ""

    def right_of(self, options: Mapping[str, Any]) -> Right:
        """The right that a tile needs: that of its metric, where it can show any."""
        name = options.get("metric") if self.options is MetricOptions else None
        found = metric_types.METRICS.get(name) if isinstance(name, str) else None
        return ("view", found.right) if found else self.right

    def options_of(self, given: Mapping[str, Any]) -> Any:
        """The options of a tile. Raises `msgspec.ValidationError`."""
        return msgspec.convert(given, self.options)


def _chart(kind: str, label: Text, *metrics: str, w: int = 1, link: str = "") -> Widget:
    """A widget of metrics, seen by those who may see the first of them. Wide ones show a chart."""
    return Widget(
        kind=kind,
        label=label,
        right=("view", metric_types.metric(metrics[0]).right),
        load=metric_tiles.loader(metrics),
        template="metric",
        w=w,
        h=w,
        metrics=metrics,
        link=link,
    )


WIDGETS: Final[dict[str, Widget]] = {
    widget.kind: widget
    for widget in (
        Widget(
            kind="health",
            label=_("Health"),
            right=None,
            load=lists.health,
            template="health",
        ),
        Widget(
            kind="alerts",
            label=_("Alerts"),
            right=("view", "alert"),
            load=alerts.now,
            template="alerts",
            w=2,
            topics=("alerts",),
            link="admin:alerts_list",
        ),
        Widget(
            kind="figures",
            label=pgettext_lazy("widget", "Records"),
            right=("view", "submission"),
            load=lists.figures,
            template="figures",
            w=2,
        ),
        _chart("staff_online", _("Staff online"), "staff.online"),
        _chart("users_active", _("Active users"), "users.active", "users.active_day", w=2),
        _chart("submissions_rate", _("Submissions per minute"), "submissions.rate", w=2),
        Widget(
            kind="conflicts",
            label=_("Open conflicts"),
            right=("update", "user"),  # those who may edit records that can conflict
            load=lists.conflicts,
            template="conflicts",
            w=2,
            topics=("conflicts",),
            link="admin:backoffice_conflict_changelist",
        ),
        Widget(
            kind="activity",
            label=_("Latest activity"),
            right=None,  # its rows are those that the reader may see
            load=lists.activity,
            template="activity",
            w=2,
            h=2,
            topics=("users", "forms", "submissions", "settings"),
            link="admin:events_storedevent_changelist",
        ),
        Widget(
            kind="erasures",
            label=_("Erasures"),
            right=("erase", "user"),
            load=lists.erasures,
            template="erasures",
        ),
        _chart("cpu", _("CPU"), "cpu.percent", "cpu.throttled", "load.per_cpu", w=2),
        _chart("memory", _("Memory"), "memory.percent", w=2),
        _chart("disk", _("Free disk space"), "disk.free"),
        _chart("database", _("Database"), "db.connections", "db.latency", "db.oldest_transaction", "db.blocked", w=2),
        _chart(
            "valkey_queue",
            _("Valkey and queue"),
            "queue.depth",
            "queue.age",
            "worker.age",
            "valkey.reachable",
            "valkey.memory",
            w=2,
        ),
        _chart("errors", _("Failed requests"), "errors.rate", "errors.count", "requests.count", w=2),
        _chart("responses", _("Response time"), "requests.p95", "requests.p50", "requests.p99", w=2),
        _chart(
            "sockets",
            _("Live connections"),
            "sockets.open",
            "sockets.lag_p99",
            "sockets.delivered",
            w=2,
            link="admin:system_sockets",
        ),
        Widget(
            kind="subscriptions",
            label=_("Subscriptions"),
            right=SYSTEM,
            load=lists.subscriptions,
            template="subscriptions",
            w=2,
            h=2,
            link="admin:system_subscriptions",
        ),
        Widget(
            kind="log",
            label=_("Log and seals"),
            right=SYSTEM,
            load=lists.log,
            template="log",
            link="admin:system_head",
        ),
        Widget(
            kind="metric",
            label=_("Any metric"),
            right=None,
            load=metric_tiles.any_metric,
            template="metric",
            w=2,
            options=MetricOptions,
        ),
        Widget(kind="note", label=_("Note"), right=None, load=lists.note, template="note", options=NoteOptions),
    )
}

_PRODUCT: Final = ("health", "staff_online", "figures", "alerts")
_RATES: Final = ("submissions_rate", "users_active")
_SYSTEM: Final = ("cpu", "memory", "errors", "responses", "database", "valkey_queue")
# Role -> the kinds of its default layout, in order, so that rows of four columns are full. What the role may not see is
# left out.
DEFAULTS: Final[dict[str, tuple[str, ...]]] = {
    "admin": (*_PRODUCT, "conflicts", *_SYSTEM, *_RATES, "activity", "sockets", "subscriptions", "disk", "log"),
    "manager": (*_PRODUCT, "conflicts", *_RATES, *_SYSTEM, "activity", "disk"),
    "agent": (*_PRODUCT, "conflicts", *_RATES, "activity"),
    "viewer": (*_PRODUCT, *_RATES, "activity"),
    "dpo": (*_PRODUCT, "erasures", "log", *_RATES, "activity"),
}


def find(kind: str) -> Widget | None:
    return WIDGETS.get(kind)


def may_see(staff: Any, kind: str, options: Mapping[str, Any]) -> bool:
    """Whether this person may see a tile. An unknown kind shows nothing, so everybody may have it."""
    widget = find(kind)
    if widget is None:
        return True
    right = widget.right_of(options)
    return access.role_of(staff) is not None and (right is None or access.may(staff, *right))
