#!/usr/bin/env python
"""The command line of the backoffice."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - settings first
    from django.db import OperationalError  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        sys.exit(f"database: {said}. Is it running? `make run` starts one; DATABASE_URL names another.")


if __name__ == "__main__":
    main()
