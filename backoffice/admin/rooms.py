"""Which model has which pages."""

from __future__ import annotations

from django.contrib import admin

from backoffice import models
from backoffice.admin import resources
from backoffice.admin.apikeys import ApiKeyAdmin
from backoffice.admin.base import RecordAdmin
from backoffice.admin.conflicts import ConflictAdmin
from backoffice.admin.log import EventAdmin
from backoffice.admin.staff import StaffAdmin
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
