"""One staff login per role, for development only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from django.contrib.auth.hashers import check_password, make_password

from backoffice.models import Staff

PASSWORD_FILE: Final = "demo-password"  # noqa: S105 - the name of a file

NAMES: Final = {
    "admin": ("Ada", "Okafor"),
    "manager": ("Grace", "Lindqvist"),
    "agent": ("Margaux", "Lefèvre"),
    "viewer": ("Víctor", "Navarro"),
    "dpo": ("Ingrid", "Schäfer"),
}


def password(folder: Path) -> str:
    """DEMO_PASSWORD, else the password stored in `folder`, else a new one, stored in a private file there."""
    given = os.environ.get("DEMO_PASSWORD", "").strip()
    if given:
        return given
    path = folder / PASSWORD_FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(made := secrets.token_urlsafe(9))
        return made


def ensure(secret: str) -> dict[str, Staff]:
    """The five logins by role; existing ones are kept, and only a changed password is updated."""
    staff = {role: _get_or_create(role) for role in NAMES}
    # Hashing is slow on purpose; one password for all logins needs only one hash.
    hashes = {person.password for person in staff.values()}
    good = {known for known in hashes if known and check_password(secret, known)} or {make_password(secret)}
    for person in staff.values():
        if person.password not in good:
            person.password = min(good)
            person.save(update_fields=["password"])
    return staff


def _get_or_create(role: str) -> Staff:
    first_name, last_name = NAMES[role]
    person, _ = Staff.objects.get_or_create(
        username=role,
        defaults={
            "first_name": first_name,
            "last_name": last_name,
            "email": f"{role}@example.org",
            "role": role,
            "is_staff": True,
            "is_superuser": role == "admin",
        },
    )
    return person
