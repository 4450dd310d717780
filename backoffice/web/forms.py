"""Base of the forms of records: they turn input into the data of a command; the domain validates it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backoffice import access, error_messages
from events import aggregate, errors, strict_json, types
from events.privacy import encryption


class JsonInput(forms.JSONField):
    """JSON in a textarea, formatted for reading; invalid input is shown again unchanged."""

    def __init__(self, *, kind: type | None = None, complaint: Any = "", **options: Any) -> None:
        super().__init__(**options)
        self.kind, self.complaint = kind, complaint

    def prepare_value(self, value: Any) -> str:
        return str(value) if isinstance(value, _AsTyped) else json.dumps(value, ensure_ascii=False, indent=2)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial if self.disabled else _AsTyped(data or "")

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise forms.ValidationError(_("Enter valid JSON, or null for no value."), code="empty")
        found = self._read(value)
        if self.kind is not None and not isinstance(found, self.kind):
            raise forms.ValidationError(self.complaint, code="kind")
        return found

    def _read(self, value: Any) -> Any:
        if self.disabled or not isinstance(value, str):
            return value
        try:
            return strict_json.loads(value)
        except errors.InvalidJson as error:
            raise forms.ValidationError(error_messages.translate(error.message), code=error.code) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Counts invalid JSON as a change."""
        if self.disabled:
            return False
        try:
            found = self.to_python(data)
        except forms.ValidationError:
            return True
        return json.dumps(initial, sort_keys=True) != json.dumps(found, sort_keys=True)

    def validate(self, value: Any) -> None:
        """Accepts every JSON value, including null and the empty list."""


class _AsTyped(str):
    """Text of a textarea that must not be encoded again."""

    __slots__ = ()


class Text(forms.CharField):
    """Converts line breaks: browsers send CR LF, the domain stores LF."""

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value) or "").replace("\r\n", "\n")


class RecordForm(forms.Form):
    """The fields of one record; hidden fields are left out, read-only ones disabled.

    Two hidden inputs are the version that the editor opened, which detects concurrent changes, and the command's
    idempotency key, which makes a double click one command.
    """

    category = ""
    required_css_class = "required"
    error_css_class = "wrong"

    def __init__(self, *args: Any, staff: Any, base: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.staff, self.base = staff, base
        for name in access.hidden_fields(staff, self.category) & self.fields.keys():
            del self.fields[name]
        self.names = list(self.fields)
        for field in self.fields.values():
            _keep_selection(field)
        self.fields["base_version"] = forms.IntegerField(widget=forms.HiddenInput, required=False, min_value=0)
        self.fields["command_id"] = forms.UUIDField(widget=forms.HiddenInput, initial=types.new_id)
        self.fields["reason"] = forms.CharField(
            label=_("Reason"),
            required=False,
            max_length=encryption.MAX_REASON,
            widget=forms.TextInput(attrs={"placeholder": _("Reason, kept in the history"), "autocomplete": "off"}),
        )
        if base is not None:
            for name in access.read_only_fields(staff, self.category) & set(self.names):
                self.fields[name].disabled = True

    @property
    def record_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.names]

    def changed(self) -> dict[str, Any]:
        """Returns the data of the command: all fields on create, only the changed ones on update."""
        wanted = {name: self.cleaned_data[name] for name in self.names if name in self.cleaned_data}
        if self.base is None:
            return wanted
        return {name: value for name, value in wanted.items() if value != self.base.get(name)}

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        reasons = aggregate.of_category(self.category).reasons if self.category else None
        if reasons is None or reasons.keys is not None:  # rules that depend on the record's key are left to the command
            return cleaned
        silent = self.base is not None and not self.errors and not self.cleaned_data.get("reason")
        if silent and not self.changed().keys().isdisjoint(reasons.fields):
            self.add_error("reason", error_messages.translate(reasons.message))
        return cleaned

    def show_errors(self, complaints: Mapping[str, str], fallback: str) -> None:
        """Shows the domain's errors at their fields, and the others at the top."""
        for name, message in complaints.items():
            self.add_error(name if name in self.fields else None, message)
        if not complaints:
            self.add_error(None, fallback)


def _keep_selection(field: forms.Field) -> None:
    """Makes inputs of type email and number text inputs, because scripts cannot keep the selection in those.

    A change by others would move the caret of the person who types. The keyboard of a phone is the same; the server
    validates.
    """
    widget = field.widget
    if isinstance(widget, forms.EmailInput):
        more = {"inputmode": "email", "autocapitalize": "none", "data-kind": "email"}
    elif isinstance(widget, forms.NumberInput):
        is_decimal = isinstance(field, forms.FloatField | forms.DecimalField)
        more = {"inputmode": "decimal" if is_decimal else "numeric", "autocomplete": "off"}
    else:
        return
    kept = {name: value for name, value in widget.attrs.items() if name not in ("min", "max", "step")}
    field.widget = forms.TextInput(attrs=kept | more)
    field.widget.is_required = field.required
