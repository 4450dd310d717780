"""The form of a channel. Secrets are entered and never shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTimeWidget
from django.utils.translation import gettext_lazy as _

from metrics.monitoring.notify import changes
from metrics.monitoring.notify.models import Channel

KEEP = _("Stored encrypted and never shown. Leave it empty to keep what is stored.")


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """Adds or changes a channel; `changes.write` checks and saves it."""

    recipients = forms.CharField(
        label=_("Recipients"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("For e-mail: one address on each line."),
    )
    url = forms.CharField(
        label=_("URL"),
        required=False,
        max_length=2000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text=_("Of the webhook, the ntfy topic or the Matrix server."),
    )
    token = forms.CharField(
        label=_("Access token"),
        required=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text=_("For ntfy (optional) and Matrix."),
    )
    room = forms.CharField(
        label=_("Room"), required=False, max_length=255, help_text=_("For Matrix: !room:example.org")
    )
    rotate = forms.BooleanField(
        label=_("New signing key"),
        required=False,
        help_text=_("For signed webhooks. The old key is used too for 24 hours."),
    )

    class Meta:
        model = Channel
        fields = ("name", "kind", "language", "min_severity", "quiet_from", "quiet_until", "zone")
        widgets = {"quiet_from": AdminTimeWidget, "quiet_until": AdminTimeWidget}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance._state.adding:
            self.fields.pop("rotate", None)
        else:
            self.initial["recipients"] = "\n".join(self.instance.recipients)
            for name in ("url", "token", "room"):
                self.fields[name].help_text = KEEP

    def clean_recipients(self) -> list[str]:
        return [line.strip(" ,;") for line in self.cleaned_data["recipients"].splitlines() if line.strip(" ,;")]

    def clean(self) -> dict[str, Any]:
        """Checks the channel as it would be written, secrets included."""
        given = super().clean() or self.cleaned_data
        if not self.errors:
            pk = None if self.instance._state.adding else self.instance.pk
            for name, message in changes.check(pk, given).items():
                self.add_error(name if name in self.fields else None, message)
        return given

    def _post_clean(self) -> None:
        """Leaves the instance as it is: `changes.write` reads and checks the row itself."""
