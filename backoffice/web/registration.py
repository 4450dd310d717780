"""Which model has which pages."""

from __future__ import annotations

from django.contrib import admin

from backoffice import models
from backoffice.sections.conflicts.pages import ConflictAdmin
from backoffice.sections.event_log.event_browser import EventAdmin
from backoffice.sections.staff.api_keys import ApiKeyAdmin
from backoffice.sections.staff.pages import StaffAdmin
from backoffice.web import resources
from backoffice.web.record_admin import RecordAdmin
from events.models import StoredEvent


@admin.register(models.User)
class UserAdmin(RecordAdmin):
    resource = resources.USERS


@admin.register(models.Form)
class FormAdmin(RecordAdmin):
    resource = resources.FORMS


@admin.register(models.Submission)
class SubmissionAdmin(RecordAdmin):
    resource = resources.SUBMISSIONS


@admin.register(models.Setting)
class SettingAdmin(RecordAdmin):
    resource = resources.SETTINGS


admin.site.register(models.Conflict, ConflictAdmin)
admin.site.register(StoredEvent, EventAdmin)
admin.site.register(models.Staff, StaffAdmin)
admin.site.register(models.ApiKey, ApiKeyAdmin)
