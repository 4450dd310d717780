"""Settings of every database session of the application. Pure: the settings, grants and checks read them.

A hung session must not hold the log's head back. Prepared statements are planned once, because planning costs more than
most of them do. The application sends these settings when it connects; some poolers drop them, so `grants.grant` also
sets them on the role, and `manage.py doctor` checks that they are in force.
"""

from __future__ import annotations

from typing import Final

# Name -> value as PostgreSQL shows it.
SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "1min",
    "lock_timeout": "15s",
    "plan_cache_mode": "force_generic_plan",
}
# A host that vanishes, or a link that is cut, sends no reset. Without limits a thread that waits for an answer would
# wait for a quarter of an hour, or for ever; with these, libpq reports the loss within ten seconds.
TCP: Final = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 8000}

OPTIONS: Final = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
