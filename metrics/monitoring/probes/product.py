"""Probe of the product: submissions, active users, open conflicts. Reads tables by name, never other sections."""

from __future__ import annotations

from events import store
from metrics.monitoring.probes.readings import Readings, every

SUBMISSIONS = "select count(*) from submissions where created_at > clock_timestamp() - interval '1 minute'"
CONFLICTS = """
select count(*), extract(epoch from clock_timestamp() - min(created_at))::float from conflicts where status = 'open'
"""
# Users who signed in at FormEase, and owners of forms that received a submission.
ACTIVE = """
select count(*) from (
    select id from users where last_login > clock_timestamp() - %(seconds)s * interval '1 second'
    union
    select f.user_id from submissions s join forms f on f.id = s.form_id
     where s.created_at > clock_timestamp() - %(seconds)s * interval '1 second') as active
"""


def read(_slot: int) -> Readings:
    opened, oldest = store.query(CONFLICTS)[0]
    return {
        ("submissions.rate", ""): store.query(SUBMISSIONS)[0][0],
        ("conflicts.open", ""): opened,
        ("conflicts.oldest", ""): oldest or 0.0,
    }


@every(60)
def read_active(_slot: int) -> Readings:
    return {
        ("users.active", ""): store.query(ACTIVE, {"seconds": 300})[0][0],
        ("users.active_day", ""): store.query(ACTIVE, {"seconds": 86_400})[0][0],
    }
