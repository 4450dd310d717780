"""Django forms for the pages of settings."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backoffice.web import forms as inputs


class SettingForm(inputs.RecordForm):
    category = "setting"

    value = inputs.JsonInput(
        label=_("Value"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "code", "data-kind": "json"}),
        help_text=_('Any JSON: true, 42, "text", [1, 2], {"key": "value"}.'),
    )

    def changed(self) -> dict[str, Any]:
        """Compares values as JSON, because Python considers 1, true and 1.0 equal."""
        found = super().changed()
        if not found and self.base is not None and "value" in self.cleaned_data:
            value = self.cleaned_data["value"]
            if json.dumps(value, sort_keys=True) != json.dumps(self.base.get("value"), sort_keys=True):
                return {"value": value}
        return found


class NewSettingForm(SettingForm):
    key = forms.CharField(
        label=_("Name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )
    field_order = ("key", "value")
