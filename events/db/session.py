"""Settings of every database session of the application. Pure: settings, rights and checks read them.

A hung session must not hold the log's head, and the store's prepared statements are planned once: planning them anew
costs more than they do. The application asks for this when it connects, which some poolers drop; so `rights.grant`
gives it to the role as well, and `manage.py doctor` looks whether it arrived.
"""

from __future__ import annotations

from typing import Final

# Name -> value as PostgreSQL shows it.
SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "1min",
    "lock_timeout": "15s",
    "plan_cache_mode": "force_generic_plan",
}
OPTIONS: Final = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
