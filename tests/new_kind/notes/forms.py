"""The form of a note's page."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from backoffice.web import forms as inputs


class NoteForm(inputs.RecordForm):
    category = "note"

    title = forms.CharField(label=_("Title"), max_length=300)
    text = inputs.Text(label=_("Text"), required=False, widget=forms.Textarea)
    pinned = forms.BooleanField(label=_("Pinned"), required=False)
