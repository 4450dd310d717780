"""The FormEase backoffice: the shell of the product and its sections."""

__version__ = "0.1.0"  # of the package, of the HTTP API's description and of the releases in CHANGELOG.md

from backoffice.celery import app as celery_app

__all__ = ["__version__", "celery_app"]
