"""Django forms for the pages of rules and silences."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice.web import forms as inputs
from events import types
from metrics.monitoring.alerting import models

PLAIN = {"autocomplete": "off", "spellcheck": "false"}


class NamesField(forms.CharField):
    """A list of names as text, separated by commas."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, widget=forms.TextInput(attrs=PLAIN), **options)

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value

    def clean(self, value: Any) -> Any:
        return [part.strip() for part in str(super().clean(value)).split(",") if part.strip()]


class WeekdaysField(NamesField):
    """Weekdays as numbers."""

    def clean(self, value: Any) -> Any:
        found = super().clean(value)
        if not all(part.isdecimal() and len(part) == 1 for part in found):
            raise forms.ValidationError(_("Weekdays are numbers from 1 (Monday) to 7 (Sunday)."))
        return sorted({int(part) for part in found})


class EscalationField(forms.CharField):
    """The steps of an escalation as lines: ``15: ops, phone``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, widget=forms.Textarea(attrs={"rows": 3, **PLAIN}), **options)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return "\n".join(f"{step['minutes']}: {', '.join(step['channels'])}" for step in value)

    def clean(self, value: Any) -> Any:
        steps = []
        for line in str(super().clean(value)).splitlines():
            minutes, colon, names = line.partition(":")
            if not line.strip():
                continue
            if not colon or not minutes.strip().isdecimal() or not 1 <= int(minutes.strip()[:6]) <= 7 * 24 * 60:
                raise forms.ValidationError(_("Write one step per line, as in: 15: operations, telephone"))
            channels = [name.strip() for name in names.split(",") if name.strip()]
            steps.append({"minutes": int(minutes), "channels": channels})
        return steps


class LocalInstantField(forms.CharField):
    """An instant on the wall clock of `zone`; its value is the instant in UTC, as events store it."""

    zone = "UTC"

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"type": "datetime-local", "autocomplete": "off"})
        super().__init__(required=False, widget=widget, **options)

    def prepare_value(self, value: Any) -> Any:
        found = parse_datetime(value) if isinstance(value, str) and value else value
        if not isinstance(found, datetime) or found.tzinfo is None:
            return value
        return f"{found.astimezone(zone_of(self.zone)):%Y-%m-%dT%H:%M}"

    def clean(self, value: Any) -> Any:
        text = str(super().clean(value)).strip()
        if not text:
            return None
        try:
            found = parse_datetime(text)
        except ValueError:
            found = None
        if found is None:
            raise forms.ValidationError(_("Enter a date and a time, such as 2026-01-31T12:00."))
        local = found if found.tzinfo else found.replace(tzinfo=zone_of(self.zone))
        return types.to_builtins(local.astimezone(UTC))


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of this name; UTC when there is none, which the domain then refuses."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return zoneinfo.ZoneInfo("UTC")


class RuleForm(inputs.RecordForm):
    category = "rule"

    title = forms.CharField(label=gettext_lazy("Title"), max_length=300)
    enabled = forms.BooleanField(label=gettext_lazy("Enabled"), required=False)
    metric = forms.CharField(label=gettext_lazy("Metric"), max_length=100, widget=forms.TextInput(attrs=PLAIN))
    target = forms.CharField(
        label=gettext_lazy("Target"),
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs=PLAIN),
        help_text=gettext_lazy("One host or subscription; empty: the worst one; *: each has an alert of its own."),
    )
    comparison = forms.ChoiceField(label=gettext_lazy("Raise when the value is"), choices=models.Rule.Comparison)
    warn = forms.FloatField(label=gettext_lazy("Warning level"), required=False)
    critical = forms.FloatField(label=gettext_lazy("Critical level"), required=False)
    clear = forms.FloatField(
        label=gettext_lazy("Clear level"),
        required=False,
        help_text=gettext_lazy("The alert is resolved at this level; empty: at the first level."),
    )
    for_seconds = forms.IntegerField(label=gettext_lazy("Seconds beyond the level"), min_value=0)
    critical_for_seconds = forms.IntegerField(
        label=gettext_lazy("Seconds beyond the critical level"),
        min_value=0,
        required=False,
        help_text=gettext_lazy("Empty: the same as for a warning."),
    )
    keep_seconds = forms.IntegerField(label=gettext_lazy("Seconds of normal values until resolved"), min_value=0)
    on_missing = forms.ChoiceField(label=gettext_lazy("Without values"), choices=models.Rule.OnMissing)
    missing_seconds = forms.IntegerField(label=gettext_lazy("Seconds without values"), min_value=0)
    per = forms.CharField(
        label=gettext_lazy("Share of"),
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs=PLAIN),
        help_text=gettext_lazy(
            "The metric that counts the total: the rule then judges the share in percent, by its lower confidence "
            "bound, and 0 below 5 counted. Empty: the value itself."
        ),
    )
    over_seconds = forms.IntegerField(label=gettext_lazy("Period of the share in seconds"), min_value=0)
    channels = NamesField(
        label=gettext_lazy("Channels"), help_text=gettext_lazy("Names, separated by commas; empty: all channels.")
    )
    escalation = EscalationField(
        label=gettext_lazy("Escalation"),
        help_text=gettext_lazy("One step per line: minutes without acknowledgement, a colon, names of channels."),
    )


class NewRuleForm(RuleForm):
    key = forms.CharField(label=gettext_lazy("Id"), max_length=63, widget=forms.TextInput(attrs=PLAIN))
    field_order = ("key", "title")

    def __init__(self, *args: Any, initial: Mapping[str, Any] | None = None, **options: Any) -> None:
        given = {"enabled": True, "for_seconds": 60, "keep_seconds": 300, "missing_seconds": 120, "over_seconds": 300}
        super().__init__(*args, initial={**given, **(initial or {})}, **options)


class SilenceForm(inputs.RecordForm):
    category = "silence"

    title = forms.CharField(label=gettext_lazy("Purpose"), max_length=300)
    rules = NamesField(
        label=gettext_lazy("Rules"), help_text=gettext_lazy("Ids of rules, separated by commas; empty: all rules.")
    )
    targets = NamesField(
        label=gettext_lazy("Targets"), help_text=gettext_lazy("Hosts or subscriptions; empty: all of them.")
    )
    severity = forms.ChoiceField(label=gettext_lazy("Severity"), choices=models.Silence.Which)
    repeat = forms.ChoiceField(label=gettext_lazy("Repeat"), choices=models.Silence.Repeat)
    zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        max_length=100,
        initial="UTC",
        widget=forms.TextInput(attrs=PLAIN),
        help_text=gettext_lazy("All times are in this time zone, such as Europe/Paris."),
    )
    starts_at = LocalInstantField(label=gettext_lazy("Begins at"), help_text=gettext_lazy("Empty: now."))
    ends_at = LocalInstantField(
        label=gettext_lazy("Ends at"), help_text=gettext_lazy("For a repeating silence; empty: it never ends.")
    )
    from_time = forms.CharField(
        label=gettext_lazy("From"),
        required=False,
        max_length=5,
        widget=forms.TextInput(attrs={"type": "time"}),
        help_text=gettext_lazy("For a repeating silence."),
    )
    to_time = forms.CharField(
        label=gettext_lazy("To"),
        required=False,
        max_length=5,
        widget=forms.TextInput(attrs={"type": "time"}),
        help_text=gettext_lazy("A time before the beginning means the next day."),
    )
    weekdays = WeekdaysField(
        label=gettext_lazy("Weekdays"),
        help_text=gettext_lazy("Numbers from 1 (Monday) to 7 (Sunday), separated by commas."),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        zone = self.data.get("zone") if self.is_bound else (self.base or {}).get("zone")
        for name in ("starts_at", "ends_at"):
            field: Any = self.fields[name]
            field.zone = zone or "UTC"

    def changed(self) -> dict[str, Any]:
        """The changed fields. The form shows minutes: an instant within the minute shown was not changed."""
        found = super().changed()
        for name in ("starts_at", "ends_at"):
            shown = self.fields[name].prepare_value
            if self.base is not None and name in found and shown(found[name]) == shown(self.base.get(name)):
                del found[name]
        return found
