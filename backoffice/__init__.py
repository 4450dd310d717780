"""The FormEase backoffice: domain, admin and API."""

from backoffice.celery import app as celery_app

__all__ = ["celery_app"]
