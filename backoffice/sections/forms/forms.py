"""Django forms for the pages of forms."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backoffice import access, models
from backoffice.web import forms as inputs


class FieldsInput(forms.Textarea):
    """The questions of a form as JSON, which the editor replaces where JavaScript runs."""

    def __init__(self) -> None:
        attrs = {"rows": 14, "spellcheck": "false", "class": "code", "data-fields-editor": "", "data-kind": "json"}
        super().__init__(attrs=attrs)


class FormForm(inputs.RecordForm):
    category = "form"

    title = forms.CharField(label=_("Title"), max_length=300)
    description = inputs.Text(label=_("Description"), required=False, widget=forms.Textarea(attrs={"rows": 3}))
    archived = forms.BooleanField(
        label=_("Archived"), required=False, help_text=_("An archived form is no longer offered to the public.")
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["fields"] = inputs.JsonInput(
            label=_("Questions"),
            required=False,
            initial=list,
            kind=list,
            complaint=_("The questions must be a list."),
            widget=FieldsInput(),
        )
        self.names.append("fields")


class NewFormForm(FormForm):
    user_id = forms.CharField(
        label=_("Owner"),
        help_text=_("Email address or id of the user the form belongs to."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    field_order = ("user_id", "title", "description")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.names.remove("archived")
        del self.fields["archived"]

    def clean_user_id(self) -> str:
        """Finds the owner by id, or by e-mail address if this person may see addresses."""
        typed = self.cleaned_data["user_id"].strip()
        try:
            found = models.User.objects.filter(pk=uuid.UUID(typed), deleted_at=None)
        except ValueError:
            seen = "email" not in access.hidden_fields(self.staff, "user")
            found = models.User.not_deleted_with_address(typed) if seen else models.User.objects.none()
        owner = found.first()
        if owner is None:
            raise forms.ValidationError(_("There is no such user."))
        return str(owner.pk)
