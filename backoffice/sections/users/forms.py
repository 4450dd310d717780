"""Django form for the page of a user."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from backoffice import error_messages, models, values
from backoffice.web import forms as inputs


class UserForm(inputs.RecordForm):
    category = "user"

    first_name = forms.CharField(label=_("First name"), required=False, max_length=150)
    last_name = forms.CharField(label=_("Last name"), required=False, max_length=150)
    email = forms.CharField(
        label=_("Email"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )
    plan = forms.ChoiceField(label=_("Plan"), choices=models.User.Plan.choices, initial="free")
    role = forms.ChoiceField(label=_("Role"), choices=models.User.Role.choices, initial="member")

    def clean_email(self) -> str:
        """Normalises the address like the domain, so that different capitals are no change."""
        try:
            return values.normal_email(self.cleaned_data["email"])
        except ValueError as error:
            raise forms.ValidationError(error_messages.translate(str(error))) from error
