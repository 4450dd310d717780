"""Notifications: decided in the transaction of an alert event, sent at least once under a stable id."""
